"""Supernodes: nodes of a graph that belong together, under a name, and the smaller graph in which each is one node."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from plainspoken.circuits.graph import Graph, Node
from plainspoken.config.named import nearest
from plainspoken.errors import UsageError

T = TypeVar("T")


def grouped(graph: Graph, groups: Mapping[str, Sequence[str]]) -> Graph:
    """The graph with these supernodes, each given by the ids of its nodes, in the place of those that it had.

    Raises UsageError for a supernode without nodes, an id that the graph lacks, or a node in two supernodes.
    """
    owner: dict[str, str] = {}
    for name, ids in groups.items():
        if not ids:
            raise UsageError(f"supernode '{name}' has no nodes: name some, or leave it out")
        for each in ids:
            if each not in graph.number:
                raise UsageError(f"supernode '{name}': the graph has no node '{each}'{nearest(each, graph.number)}")
            if each in owner:
                raise UsageError(f"node '{each}' is in the supernodes '{owner[each]}' and '{name}': one can have it")
            owner[each] = name
    return replace(graph, supernodes=tuple((name, tuple(graph.number[i] for i in ids)) for name, ids in groups.items()))


def by_latent(graph: Graph) -> dict[str, list[str]]:
    """For `grouped`: each latent that stands at more than one token, its nodes under LAYER/LATENT."""
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.kind == "latent":
            found.setdefault(f"{node.layer}/{node.index}", []).append(node.id)
    return {name: ids for name, ids in found.items() if len(ids) > 1}


def collapsed(graph: Graph) -> Graph:
    """The graph with each supernode as one node of kind "group"; it has no supernodes any more.

    Values, edges from and to others, offsets and rests are sums over the members; edges between members are the group's
    own, in its offset, so that edges + offset + rest is still its value. Its influence is a sum too: what passes two
    members counts twice. `explained` is that of all that enters the members from outside; where none of what enters a
    member is explained, the graph does not tell how much that is, and its edges and rest are counted.
    Raises UsageError where two nodes would have one id, as in a graph that had a group of this name before.
    """
    n = len(graph.nodes)
    of = np.full(n, -1)
    for group, (_, members) in enumerate(graph.supernodes):
        of[list(members)] = group
    nodes, number = _nodes(graph, of)
    m = len(nodes)
    source, target = number[graph.source], number[graph.target]
    inner = source == target
    offset = np.bincount(number, graph.offset, m) + np.bincount(target[inner], graph.weight[inner], m)
    pairs, at = np.unique(np.stack([source[~inner], target[~inner]]), axis=1, return_inverse=True)
    return replace(
        graph,
        nodes=nodes,
        source=pairs[0],
        target=pairs[1],
        weight=np.bincount(at.ravel(), graph.weight[~inner], pairs.shape[1]),
        offset=offset,
        rest=np.bincount(number, graph.rest, m),
        influence=np.bincount(number, graph.influence, m),
        explained=_explained(graph, number, of, inner, m),
        supernodes=(),
    )


def _nodes(graph: Graph, of: Int[np.ndarray, " n"]) -> tuple[tuple[Node, ...], Int[np.ndarray, " n"]]:
    """(the nodes of the smaller graph, each group where its first member stood; which of them each node becomes)."""
    nodes: list[Node] = []
    number, place = np.zeros(len(graph.nodes), int), dict[int, int]()
    for i, (node, group) in enumerate(zip(graph.nodes, of.tolist(), strict=True)):
        if group < 0:
            number[i] = len(nodes)
            nodes.append(node)
            continue
        if group not in place:
            name, members = graph.supernodes[group]
            place[group] = len(nodes)
            nodes.append(_group(name, [graph.nodes[member] for member in members]))
        number[i] = place[group]
    double = [name for name, count in Counter(node.id for node in nodes).items() if count > 1]
    if double:
        raise UsageError(f"two supernodes would both be '{double[0]}' once collapsed: give one another name")
    return tuple(nodes), number


def _group(name: str, members: list[Node]) -> Node:
    """The node that stands for its members; layer, token, latent and sentence that all of them share are its own."""

    def shared(told: list[T | None]) -> T | None:
        return told[0] if len(set(told)) == 1 else None

    def total(numbers: list[float | None]) -> float | None:
        told = [number for number in numbers if number is not None]
        return float(np.sum(told)) if told else None

    return Node(
        "group",
        shared([node.layer for node in members]),
        shared([node.position for node in members]),
        shared([node.index for node in members]),
        value=total([node.value for node in members]),
        activation=total([node.activation for node in members]),
        label=name,
        text=shared([node.text for node in members]),
        fidelity=shared([node.fidelity for node in members]),
    )


def _explained(
    graph: Graph, number: Int[np.ndarray, " n"], of: Int[np.ndarray, " n"], inner: np.ndarray, m: int
) -> Float[np.ndarray, " m"]:
    """Of all that enters a node from outside, in absolute terms, the share by edges of sources other than errors."""
    n, size = len(graph.nodes), np.abs(graph.weight)
    clean = np.array([graph.nodes[i].kind != "error" for i in graph.source], bool)
    by_clean = np.bincount(graph.target[clean], size[clean], n)
    told = np.isfinite(graph.explained) & (graph.explained > 0)
    least = np.bincount(graph.target, size, n) + np.abs(graph.rest)
    entering = np.divide(by_clean, graph.explained, out=least, where=told)
    own = np.bincount(graph.target[inner], size[inner], n)
    own_clean = np.bincount(graph.target[inner & clean], size[inner & clean], n)  # errors may be members, too
    seen = np.maximum(np.bincount(number, by_clean - own_clean, m), 0.0)
    total = np.bincount(number, entering - own, m)
    inputs = np.bincount(number, np.isfinite(graph.explained), m) > 0
    share = np.divide(seen, total, out=np.full(m, np.nan), where=inputs & (total > 0))
    alone = number[of < 0]
    share[alone] = graph.explained[of < 0]
    return share
