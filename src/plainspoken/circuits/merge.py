"""Paths to a graph: paths that share nodes become one graph in which nothing is counted twice.

Each path of the tree adds its weight, once, to the edge from its last node to the one before. A node that several paths
pass, by whatever ways they go on to the root, is one node whose value is what flows through it in all. What was seen of
its inputs comes by its edges, its own bias stands in its offset, and all that the search did not keep is its rest.
(Algorithm 2 of Dunefsky et al., arXiv 2406.11944, whose code adds the weight of a shared prefix once for each path that
has it.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.paths import CONSTANT, Paths


def merged(paths: Paths, tokens: Sequence[str], whole: bool = False) -> Graph:
    """The graph of all paths that any round kept, in units of the root's value.

    At a node with inputs, edges + offset + rest is its value, what flows through it; and, but for the root, that is the
    sum of its edges onward. Errors and constants stand at their tokens. `whole`: those that the search did not keep are
    nodes too, of all layers together (they have no layer), and only latents, heads, skips and embeddings are left in
    the rest. `explained`: of the terms, in absolute terms, of all paths that end at the node; what flows through it by
    a path that was not extended counts as not explained. `influence`: as in attribution graphs, a path hands its share
    on to its terms as their sizes are.
    """
    flows = _flows(paths, whole)
    ids: dict[str, int] = {}
    nodes: list[Node] = []
    for node in flows.nodes:
        if ids.setdefault(node.id, len(nodes)) == len(nodes):
            nodes.append(node)
    n, number = len(nodes), np.array([ids[node.id] for node in flows.nodes])

    def summed(values: Float[np.ndarray, " flows"]) -> Float[np.ndarray, " n"]:
        return np.bincount(number, values, n)

    below = flows.parent >= 0
    source, target = number[below], number[flows.parent[below]]
    pairs, at = np.unique(np.stack([source, target]), axis=1, return_inverse=True)
    weight = np.bincount(at.ravel(), flows.weight[below], pairs.shape[1])
    split = summed(flows.extended.astype(float)) > 0
    value, offset = summed(flows.weight), summed(flows.bias)
    rest = np.where(split, value - offset - np.bincount(pairs[1], weight, n), 0)
    entering = summed(np.where(flows.extended, flows.size, np.abs(flows.weight)))
    clean = below & np.array([node.kind != "error" for node in flows.nodes])
    seen = np.bincount(number[flows.parent[clean]], flows.weighed[clean], n)
    return Graph(
        tuple(replace(node, value=float(v) if s else None) for node, v, s in zip(nodes, value, split, strict=True)),
        pairs[0],
        pairs[1],
        weight,
        offset,
        rest,
        influence=summed(flows.share),
        explained=np.divide(seen, entering, out=np.full(n, np.nan), where=split & (entering > 0)),
        tokens=tuple(tokens),
        unit="root",
    )


@dataclass(frozen=True, eq=False)
class _Flows:
    """Paths that are edges of the graph, with the root first: all but those that end in an own bias.

    `weighed` is the size of the weight, or of a sum of terms the sum of their sizes; `share` the influence.
    """

    nodes: list[Node]
    parent: Int[np.ndarray, " flows"]
    weight: Float[np.ndarray, " flows"]
    weighed: Float[np.ndarray, " flows"]
    extended: Bool[np.ndarray, " flows"]
    bias: Float[np.ndarray, " flows"]
    size: Float[np.ndarray, " flows"]
    share: Float[np.ndarray, " flows"]


def _flows(paths: Paths, whole: bool) -> _Flows:
    kept = np.array([node.kind != "own_bias" for node in paths.nodes])
    left = _left(paths) if whole else []
    nodes = [*(node for node, keep in zip(paths.nodes, kept, strict=True) if keep), *(node for node, *_ in left)]
    # Nothing goes on from an own bias, so that no path lacks the one that it extends.
    place = np.append(np.cumsum(kept) - 1, -1)
    parent = np.append(place[paths.parent[kept]], [place[of] for _, of, _, _ in left]).astype(int)
    weighed = np.append(np.abs(paths.weight[kept]), [size for *_, size in left])
    none = np.zeros(len(left))
    size = np.append(paths.size[kept], none)
    share = np.ones(len(nodes))
    for i in range(1, len(nodes)):
        above = size[parent[i]]
        share[i] = share[parent[i]] * weighed[i] / above if above > 0 else 0
    return _Flows(
        nodes,
        parent,
        np.append(paths.weight[kept], [weight for _, _, weight, _ in left]),
        weighed,
        np.append(paths.extended[kept], none.astype(bool)),
        np.append(paths.bias[kept], none),
        size,
        share,
    )


def _left(paths: Paths) -> list[tuple[Node, int, float, float]]:
    """(node, path that it would extend, sum, sum of sizes) of the errors and constants that were not kept."""
    sums, sizes = paths.by_kind.copy(), paths.size_by_kind.copy()
    for node, parent, weight in zip(paths.nodes, paths.parent.tolist(), paths.weight.tolist(), strict=True):
        if node.kind in CONSTANT:
            kind = CONSTANT.index(node.kind)
            sums[parent, kind] -= weight
            sizes[parent, kind] -= abs(weight)
    found = []
    for path in np.flatnonzero(paths.extended).tolist():
        for kind, name in enumerate(CONSTANT):
            # What is left of sums whose every term was kept is rounding, and no node.
            if sizes[path, kind] > 1e-9 * paths.size[path]:
                node = Node(name, position=paths.nodes[path].position if path else paths.position)
                found.append((node, path, float(sums[path, kind]), float(sizes[path, kind])))
    return found
