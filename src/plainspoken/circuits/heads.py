"""By which heads an edge of an attribution graph comes: its last head on the way to its target, or none.

An edge of an attribution graph is all that a source adds to a target by any ways through heads and skips. Each way has
one head that is last before the target, or passes none; so heads and the bypass share the edge out exactly.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from plainspoken.circuits.adjoint import Columns, columns, rows_by_head
from plainspoken.circuits.attribution import Root
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Graph, Node
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
    frozen: Frozen, graph: Graph, node: int, edges: Int[np.ndarray, " e"] | None = None, roots: Root | None = None
) -> EdgesByHead:
    """All edges into a node of an attribution graph, strongest first (or these of them), shared out by head.

    `frozen` is what the graph was made of; `roots` is needed where the node is one of them. Raises UsageError for a
    graph that is no attribution graph, a node that is no target, or an edge into another node.
    """
    if graph.unit != "own":
        raise UsageError("only an attribution graph's edges have heads to share them out; in paths, heads are nodes")
    chosen = graph.incoming(node) if edges is None else edges
    if (graph.target[chosen] != node).any():
        raise UsageError(f"not all of these edges lead to '{graph.nodes[node].id}': give edges into one node")
    bypass, heads = rows_by_head(frozen, _target(frozen, graph.nodes[node], roots))
    where = columns(frozen)
    at = torch.tensor([column_of(frozen, where, graph.nodes[i]) for i in graph.source[chosen]], dtype=torch.long)
    at = at.to(bypass.device)
    return EdgesByHead(chosen, bypass[at, 0].cpu().numpy(), heads[:, :, at, 0].cpu().numpy())


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


def column_of(frozen: Frozen, where: Columns, node: Node) -> int:
    """In which column of a row a source of an attribution graph stands. UsageError for what is no source of it."""
    position = -1 if node.position is None else node.position
    if node.layer is None:
        if node.kind in ("token", "position") and 0 <= position < frozen.t:
            return (where.token if node.kind == "token" else where.position).start + position
    elif node.layer < len(where.layers):
        at, latents = where.layers[node.layer], frozen.layers[node.layer].latents
        match node.kind:
            case "attention_bias":
                return at.attention_bias
            case "ffn_bias":
                return at.ffn_bias
            case "error":
                return at.error.start + position
            case "latent":
                first, last = latents.start[position : position + 2].tolist()
                entry = first + int(torch.searchsorted(latents.latent[first:last], node.index or 0))
                if entry < last and int(latents.latent[entry]) == node.index:
                    return at.latents.start + entry
    raise UsageError(f"'{node.id}' is no source at this prompt: give the prompt and coders that the graph was made of")
