"""Attribution graphs: what influences the targets, all nodes and edges of it, pruned by influence.

The graph is acyclic, layer over layer, so that influence p (A + A² + …) on the row-normalised |A| needs no matrix:
going down from the targets, a latent's influence is complete before its own row is computed, and is handed on to the
row's sources at once. One sweep gives every node's influence in memory that grows with the nodes; a second computes
again the rows of the nodes that stay, and keeps the edges. (Ameisen et al. 2025, "Circuit Tracing", appendix on
pruning; without the biases and positions that published tools leave out.)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.adjoint import Columns, columns, rows
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.targets import Targets, firing_targets, value_of
from plainspoken.errors import ActivationError

BLOCK = 6 * 2**20
"""Numbers in the rows, or in the gradients, of one batch; more would be taken from the system page by page."""
EDGES_AT_ONCE = 2**23
"""Edges held before the weakest of them, within what may be dropped, are."""


@dataclass(frozen=True, eq=False)
class Root:
    """What is explained: targets at one place with a node for each and the share of the influence that each gets."""

    targets: Targets
    nodes: tuple[Node, ...]
    share: Float[np.ndarray, " b"]


def attribution_graph(
    frozen: Frozen,
    roots: Root,
    tokens: Sequence[str],
    node_share: float = 0.8,
    edge_share: float = 0.98,
    progress: Callable[[int], object] | None = None,
) -> Graph:
    """The graph of all that influences the roots, pruned to these shares of node and of edge influence.

    Tokens' embeddings always stay. What is pruned is summed in `rest` at each node, so that every node still adds up.
    `progress` is told how many more rows were computed. Raises ActivationError where a contribution is not finite.
    """
    where = columns(frozen)
    influence, _ = _sweep(frozen, roots, where, None, progress)
    kept = _most(influence, node_share)
    kept[where.token] = True
    edges = _Edges(1 - edge_share)
    _, sums = _sweep(frozen, roots, where, kept, progress, edges)
    source, target, weight = edges.finish()
    return _graph(frozen, roots, where, influence, (source, target, weight), sums, tokens)


Sums = dict[int, tuple[float, float, float]]
"""By target: all that enters it, in absolute terms; the sum of it; what of it errors are, in absolute terms."""


class _Edges:
    """Edges as they come, from the roots down, the weakest dropped within what may be dropped in all."""

    def __init__(self, droppable: float) -> None:
        self._droppable, self._mass, self._dropped = droppable, 0.0, 0.0
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._held = 0

    def add(self, source: np.ndarray, target: np.ndarray, weight: np.ndarray, score: np.ndarray) -> None:
        self._parts.append((source.astype(np.int32), target.astype(np.int32), weight, score))
        self._mass += float(score.sum(dtype=np.float64))
        self._held += len(source)
        if self._held > EDGES_AT_ONCE:
            self._compact()

    def _compact(self) -> None:
        """Drop the weakest: never more in all than the share of what has come so far."""
        source, target, weight, score = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = np.argsort(score, kind="stable")
        lost = np.cumsum(score[order], dtype=np.float64)
        drop = int(np.searchsorted(lost, self._droppable * self._mass - self._dropped, side="right"))
        self._dropped += float(lost[drop - 1]) if drop else 0.0
        keep = np.sort(order[drop:])
        self._parts, self._held = [(source[keep], target[keep], weight[keep], score[keep])], len(keep)

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self._parts:
            return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
        self._compact()
        source, target, weight, _ = self._parts[0]
        return source, target, weight


def _sweep(
    frozen: Frozen,
    roots: Root,
    where: Columns,
    kept: Bool[np.ndarray, " columns"] | None,
    progress: Callable[[int], object] | None,
    edges: _Edges | None = None,
) -> tuple[Float[np.ndarray, " columns"], Sums]:
    """(every source's influence, the sums of the targets' rows), over all sources or the kept ones alone.

    Targets are numbered by their columns, and roots by negative numbers: root i is -1 - i.
    """
    influence = torch.zeros(where.total, dtype=torch.float64)
    mask = None if kept is None else torch.from_numpy(kept)
    errors = np.concatenate([np.arange(at.error.start, at.error.stop) for at in where.layers])
    sums: Sums = {}
    for targets, numbers, own in _batches(frozen, roots, where, influence, mask):
        block = rows(frozen, targets).cpu()
        size = block.abs()
        totals = size.sum(0)
        if not bool(torch.isfinite(totals).all()):
            raise ActivationError("a contribution is not finite: run with lm.dtype=float32, or another prompt")
        if edges is not None:
            signed, of_errors = block.sum(0).tolist(), size[errors].sum(0).tolist()
            sums |= {
                n: (a, s, e) for n, a, s, e in zip(numbers.tolist(), totals.tolist(), signed, of_errors, strict=True)
            }
        if mask is not None:
            size[~mask] = 0
            totals = size.sum(0)
        share = own / totals.double().clamp(min=torch.finfo(torch.float64).tiny)
        influence += (size @ share.to(size)).double()
        if edges is not None and mask is not None:
            column, b = size.nonzero(as_tuple=True)
            score = size[column, b].double() * share[b]
            edges.add(column.numpy(), numbers[b].numpy(), block[column, b].double().numpy(), score.numpy())
        if progress is not None:
            progress(len(targets))
    return influence.numpy(), sums


def _batches(
    frozen: Frozen,
    roots: Root,
    where: Columns,
    influence: Float[Tensor, " columns"],
    mask: Bool[Tensor, " columns"] | None,
) -> Iterator[tuple[Targets, Int[Tensor, " b"], Float[Tensor, " b"]]]:
    """(targets, their numbers, their influence), from the roots down; a layer's influence is read on reaching it."""
    d = frozen.embedded.shape[1]
    size = max(1, BLOCK // max(where.total, frozen.t * d))
    share = torch.from_numpy(roots.share).double()
    for some in torch.arange(len(roots.targets)).split(size):
        yield roots.targets[some], -1 - some, share[some]
    for layer in reversed(range(len(frozen.layers))):
        at = where.layers[layer].latents
        mine = influence[at]
        reached = mine > 0 if mask is None else (mine > 0) & mask[at]
        if not bool(reached.any()):  # a layer without a coder, for one
            continue
        for some in reached.nonzero().squeeze(1).split(size):
            if not len(some):  # nothing splits into one part of nothing
                continue
            yield firing_targets(frozen, layer, some), at.start + some, mine[some]


def _most(score: Float[np.ndarray, " n"], share: float) -> Bool[np.ndarray, " n"]:
    """The fewest of the largest that together have this share of the whole."""
    order = np.argsort(-score, kind="stable")
    reached = np.cumsum(score[order])
    enough = int(np.searchsorted(reached, share * reached[-1])) + 1 if len(score) else 0
    mask = np.zeros(len(score), bool)
    mask[order[:enough]] = score[order[:enough]] > 0
    return mask


def _graph(
    frozen: Frozen,
    roots: Root,
    where: Columns,
    influence: Float[np.ndarray, " columns"],
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    sums: Sums,
    tokens: Sequence[str],
) -> Graph:
    source, target, weight = _without_dangling(where, *edges)
    tokens_kept = np.arange(where.token.start, where.token.stop)
    used = np.unique(np.concatenate([source, target[target >= 0], tokens_kept]))
    nodes = [*roots.nodes, *(source_node(frozen, where, int(column), tokens) for column in used)]
    n_roots = len(roots.nodes)
    number = {-1 - i: i for i in range(n_roots)} | {int(column): n_roots + i for i, column in enumerate(used)}
    places = np.array([number[int(each)] for each in target], np.int64)
    offset, rest, explained = np.zeros(len(nodes)), np.zeros(len(nodes)), np.full(len(nodes), np.nan)
    entering = np.bincount(places, weight, len(nodes))
    error = np.array([nodes[number[int(each)]].kind == "error" for each in source], bool)
    clean = np.bincount(places[~error], np.abs(weight[~error]), len(nodes))
    offsets = _offsets(frozen, roots, where, used)
    for key, (size, total, _) in sums.items():
        if key not in number:
            continue
        i = number[key]
        offset[i], rest[i] = offsets[key], total - entering[i]
        explained[i] = clean[i] / size if size > 0 else np.nan
    share = np.concatenate([roots.share, influence[used]])
    froms = np.array([number[int(each)] for each in source], np.int64)
    return Graph(tuple(nodes), froms, places, weight, offset, rest, share, explained, tuple(tokens))


def _without_dangling(
    where: Columns, source: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The edges on a way from a source to a root: latents into which, or out of which, nothing goes are left out."""
    latent = np.zeros(where.total, bool)
    for at in where.layers:
        latent[at.latents] = True
    while True:
        enters, leaves = np.zeros(where.total, bool), np.zeros(where.total, bool)
        enters[target[target >= 0]], leaves[source] = True, True
        keep = ~(latent[source] & ~enters[source]) & ((target < 0) | leaves[target])
        if keep.all():
            return source, target, weight
        source, target, weight = source[keep], target[keep], weight[keep]


def _offsets(frozen: Frozen, roots: Root, where: Columns, used: Int[np.ndarray, " some"]) -> dict[int, float]:
    found = {-1 - i: offset for i, offset in enumerate(roots.targets.offset.tolist())}
    for layer, at in enumerate(where.layers):
        mine = used[(used >= at.latents.start) & (used < at.latents.stop)]
        if len(mine):
            some = torch.from_numpy(mine - at.latents.start)
            found |= dict(zip(mine.tolist(), firing_targets(frozen, layer, some).offset.tolist(), strict=True))
    return found


def source_node(frozen: Frozen, where: Columns, column: int, tokens: Sequence[str]) -> Node:
    """The node that a column stands for."""
    if column < where.token.stop:
        return Node("token", position=column, index=int(frozen.tokens[column]), label=tokens[column])
    if column < where.position.stop:
        return Node("position", position=column - where.position.start)
    for layer, at in enumerate(where.layers):
        if column == at.attention_bias:
            return Node("attention_bias", layer)
        if column == at.ffn_bias:
            return Node("ffn_bias", layer)
        if column < at.error.stop:
            return Node("error", layer, column - at.error.start)
        if column < at.latents.stop:
            return latent_node(frozen, layer, column - at.latents.start)
    raise AssertionError(f"no column {column}")


def latent_node(frozen: Frozen, layer: int, entry: int) -> Node:
    """The node of an entry in a layer's list of firing latents."""
    latents = frozen.layers[layer].latents
    return Node(
        "latent",
        layer,
        position=int(latents.position[entry]),
        index=int(latents.latent[entry]),
        value=float(latents.pre[entry]),
        activation=float(latents.value[entry]),
    )


def root_of(frozen: Frozen, targets: Targets, nodes: Sequence[Node], share: Sequence[float] | None = None) -> Root:
    """Roots with these nodes, which get their values; equal shares of the influence unless told."""
    values = value_of(frozen, targets).tolist()
    weights = np.full(len(nodes), 1 / len(nodes)) if share is None else np.asarray(share, np.float64)
    return Root(targets, tuple(replace(n, value=v) for n, v in zip(nodes, values, strict=True)), weights)
