"""By which heads an edge of an attribution graph comes: its last head on the way to its target, or none.

An edge of an attribution graph is all that a source adds to a target by any ways through heads and skips. Each way has
one head that is last before the target, or passes none; so heads and the bypass share the edge out exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from plainspoken.circuits.attribution import Root
from plainspoken.circuits.direct import joined, readers_of
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.last_heads import by_last_head, source_of
from plainspoken.circuits.lines import node_words, signed
from plainspoken.circuits.targets import Targets, latent_targets
from plainspoken.errors import UsageError


@dataclass(frozen=True)
class HeadShare:
    """What one head is last to hand on of an edge."""

    layer: int
    head: int
    value: float


@dataclass(frozen=True, eq=False)
class EdgesByHead:
    """Edges into one node: `bypass` and `heads`, summed over layers and heads, are the edges' weights.

    `edges`: their numbers in the graph. `heads` are the shares whose last head on the way to the node is (layer, head);
    `bypass` is what passes no head. A constant of attention is what a layer adds by itself: it counts as bypass until
    a later head reads it.
    """

    edges: Int[np.ndarray, " e"]
    bypass: Float[np.ndarray, " e"]
    heads: Float[np.ndarray, "layers h e"]

    def top(self, edge: int, count: int) -> list[HeadShare]:
        """The heads with the largest shares of an edge (its number in the graph), in absolute terms."""
        [at] = np.flatnonzero(self.edges == edge)
        shares = self.heads[:, :, at]
        order = np.argsort(-np.abs(shares).ravel(), kind="stable")[:count]
        found = [divmod(int(i), shares.shape[1]) for i in order]
        return [HeadShare(layer, head, float(shares[layer, head])) for layer, head in found if shares[layer, head]]


def edges_by_head(
    frozen: Frozen, graph: Graph, edges: Mapping[int, Int[np.ndarray, "_"]], roots: Root | None = None
) -> dict[int, EdgesByHead]:
    """By node of an attribution graph: these of the edges into it (their numbers), shared out by head.

    `frozen` is what the graph was made of; `roots` is needed where a node is one of them. Raises UsageError for a
    graph that is no attribution graph, a node that is no target, or an edge into another node.
    """
    if graph.unit != "own":
        raise UsageError("only an attribution graph's edges have heads to share them out; in paths, heads are nodes")
    for node, chosen in edges.items():
        if (graph.target[chosen] != node).any():
            raise UsageError(f"not all of these edges lead to '{graph.nodes[node].id}': give edges into one node")
    if not edges:
        return {}
    readers = joined([readers_of(frozen, _target(frozen, graph.nodes[node], roots)) for node in edges])
    ends = np.concatenate([graph.source[chosen] for chosen in edges.values()])
    numbers, source = np.unique(ends, return_inverse=True)
    sources = [source_of(frozen, graph.nodes[i]) for i in numbers.tolist()]
    reader = np.repeat(np.arange(len(edges)), [len(chosen) for chosen in edges.values()])
    device = frozen.tokens.device
    bypass, heads = by_last_head(
        frozen, readers, sources, torch.as_tensor(reader, device=device), torch.as_tensor(source, device=device)
    )
    past, through = bypass.cpu().numpy(), heads.cpu().numpy()
    return {
        node: EdgesByHead(chosen, past[reader == b], through[:, :, reader == b])
        for b, (node, chosen) in enumerate(edges.items())
    }


HEADS_TOLD = 3
"""Heads that are named of an edge; the others are told as a sum."""


def edge_lines(graph: Graph, found: EdgesByHead, heads: int = HEADS_TOLD) -> tuple[str, ...]:
    """A line for each of these edges of the graph: its weight, the heads that it comes by, and what by none."""
    lines = []
    for place, edge in enumerate(found.edges.tolist()):
        ends = (replace(graph.nodes[i], text=None) for i in (graph.source[edge], graph.target[edge]))
        names = (node_words(each, graph.tokens) for each in ends)
        top = found.top(edge, heads)
        parts = [f"head {each.layer}/{each.head} {signed(each.value)}" for each in top]
        other = float(found.heads[:, :, place].sum()) - sum(each.value for each in top)
        parts += [f"other heads {signed(other)}"] if len(found.top(edge, heads + 1)) > heads else []
        parts += [f"no head {signed(float(found.bypass[place]))}"] if found.bypass[place] or not parts else []
        lines.append(f"edge {' → '.join(names)} {signed(float(graph.weight[edge]))}: {', '.join(parts)}")
    return tuple(lines)


def _target(frozen: Frozen, node: Node, roots: Root | None) -> Targets:
    if node.kind == "latent" and node.layer is not None and node.position is not None:
        device = frozen.tokens.device
        position, latent = torch.tensor([node.position], device=device), torch.tensor([node.index], device=device)
        return latent_targets(frozen, node.layer, position, latent)
    for i, root in enumerate(() if roots is None else roots.nodes):
        if roots is not None and root.id == node.id:
            return roots.targets[i : i + 1]
    raise UsageError(f"'{node.id}' is neither a latent nor one of the roots that were given: nothing enters it")
