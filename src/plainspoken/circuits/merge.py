"""Paths to a graph: paths that share nodes become one graph in which nothing is counted twice.

Each path of the tree adds its weight, once, to the edge from its last node to the one before. A node that several paths
pass, by whatever ways they go on to the root, is one node whose value is what flows through it in all. What was seen of
its inputs comes by its edges, its own bias stands in its offset, and all that the search did not keep is its rest,
which so has the pruned terms, errors and constants in it. (Algorithm 2 of Dunefsky et al., arXiv 2406.11944, whose code
adds the weight of a shared prefix once for each path that has it.)
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.paths import Paths


def merged(paths: Paths, tokens: Sequence[str]) -> Graph:
    """The graph of all paths that any round kept, in units of the root's value.

    At a node with inputs, edges + offset + rest is its value, what flows through it; and, but for the root, that is the
    sum of its edges onward. A node of constants or errors stands at its token. `explained`: of the terms, in absolute
    terms, of all paths that end at the node; what flows through a node by a path that was not extended counts as not
    explained. `influence`: as in attribution graphs, a path hands its share on to its terms as their sizes are.
    """
    ids: dict[str, int] = {}
    nodes: list[Node] = []
    for node in paths.nodes:
        if node.kind != "own_bias" and ids.setdefault(node.id, len(nodes)) == len(nodes):
            nodes.append(node)
    n = len(nodes)
    number = np.array([ids.get(node.id, -1) for node in paths.nodes])
    real = number >= 0
    flow = np.bincount(number[real], paths.weight[real], n)
    child = np.flatnonzero(real & (paths.parent >= 0))
    pairs, at = np.unique(number[[child, paths.parent[child]]], axis=1, return_inverse=True)
    weight = np.bincount(at.ravel(), paths.weight[child], pairs.shape[1])
    offset = np.bincount(number[real], paths.bias[real], n)
    rest = flow - offset - np.bincount(pairs[1], weight, n)
    split = np.bincount(number[real], paths.extended[real], n) > 0
    offset[~split], rest[~split] = 0, 0
    valued = (replace(node, value=float(v) if s else None) for node, v, s in zip(nodes, flow, split, strict=True))
    influence = np.bincount(number[real], _influence(paths)[real], n)
    explained = _explained(paths, number, n)
    return Graph(
        tuple(valued), pairs[0], pairs[1], weight, offset, rest, influence, explained, tuple(tokens), unit="root"
    )


def _influence(paths: Paths) -> np.ndarray:
    share = np.zeros(len(paths))
    share[0] = 1
    for i in range(1, len(paths)):
        parent = paths.parent[i]
        share[i] = share[parent] * abs(paths.weight[i]) / paths.size[parent] if paths.size[parent] > 0 else 0
    return share


def _explained(paths: Paths, number: np.ndarray, n: int) -> np.ndarray:
    real = number >= 0
    entering = np.bincount(number[real], np.where(paths.extended, paths.size, np.abs(paths.weight))[real], n)
    clean = [i for i in range(1, len(paths)) if paths.nodes[i].kind not in ("error", "own_bias")]
    seen = np.bincount(number[paths.parent[clean]], np.abs(paths.weight[clean]), n)
    split = np.bincount(number[real], paths.extended[real], n) > 0
    return np.divide(seen, entering, out=np.full(n, np.nan), where=split & (entering > 0))
