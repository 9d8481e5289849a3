"""Supernodes: the smaller graph says what the larger one says, summed."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from families_made import made_coders, made_lm, made_prompt
from plainspoken.circuits.attribution import attribution_graph, root_of
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.lines import node_words
from plainspoken.circuits.merge import merged
from plainspoken.circuits.paths import strongest_paths
from plainspoken.circuits.supernodes import by_latent, collapsed, grouped
from plainspoken.circuits.targets import logit_targets
from plainspoken.circuits.viewer_export import viewer_graph
from plainspoken.errors import UsageError

TOKENS = tuple(f"t{i}" for i in range(8))


@pytest.fixture(scope="module")
def graphs() -> tuple[Graph, Graph]:
    """An attribution graph and a graph of paths."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = made_lm("gpt2")
        frozen = freeze(lm, made_coders(lm, (0, 1, 2)), made_prompt(8), torch.float64)
    targets, root = logit_targets(frozen, 7, None, [3]), Node("logit", index=3)
    paths = strongest_paths(frozen, targets, root, TOKENS, rounds=4, width=20, keep=80)
    whole = attribution_graph(frozen, root_of(frozen, targets, [root]), TOKENS, 0.99)
    return whole, merged(paths, TOKENS)


def adds_up(graph: Graph) -> bool:
    entering = np.bincount(graph.target, graph.weight, len(graph.nodes)) + graph.offset + graph.rest
    return all(
        np.isclose(entering[i], node.value, rtol=1e-9, atol=1e-9)
        for i, node in enumerate(graph.nodes)
        if node.value is not None and np.isfinite(graph.explained[i])
    )


@given(st.data())
@settings(max_examples=25)
def test_every_node_still_adds_up_and_edges_are_sums(graphs: tuple[Graph, Graph], data: st.DataObject) -> None:
    graph = data.draw(st.sampled_from(graphs))
    places = data.draw(st.lists(st.integers(0, 3), min_size=len(graph.nodes), max_size=len(graph.nodes)))
    groups = defaultdict(list)
    for node, place in zip(graph.nodes, places, strict=True):
        if place and node.kind != "logit":
            groups[f"group {place}"].append(node.id)
    small = collapsed(grouped(graph, groups))
    assert adds_up(graph) and adds_up(small) and not small.supernodes
    assert len({node.id for node in small.nodes}) == len(small.nodes)
    name = {each: group for group, ids in groups.items() for each in ids}
    wanted = defaultdict(float)
    for s, t, w in zip(graph.source, graph.target, graph.weight, strict=True):
        ends = tuple(name.get(graph.nodes[i].id, graph.nodes[i].id) for i in (s, t))
        if ends[0] != ends[1]:
            wanted[ends] += w
    called = [node.label if node.kind == "group" else node.id for node in small.nodes]
    ends = [(called[s], called[t]) for s, t in zip(small.source, small.target, strict=True)]
    assert dict(zip(ends, small.weight, strict=True)) == pytest.approx(dict(wanted), rel=1e-9, abs=1e-9)
    told = small.explained[np.isfinite(small.explained)]
    assert (told >= 0).all() and (told <= 1 + 1e-9).all()


def test_a_graph_without_supernodes_is_itself_and_a_group_of_one_keeps_its_numbers(graphs: tuple[Graph, Graph]) -> None:
    for graph in graphs:
        same = collapsed(graph)
        assert same.nodes == graph.nodes and np.array_equal(same.explained, graph.explained, equal_nan=True)
        assert dict(zip(zip(same.source, same.target, strict=True), same.weight, strict=True)) == dict(
            zip(zip(graph.source, graph.target, strict=True), graph.weight, strict=True)
        )
        i = next(i for i, node in enumerate(graph.nodes) if node.kind == "latent" and graph.explained[i] > 0)
        one = collapsed(grouped(graph, {"it": [graph.nodes[i].id]}))
        j = next(j for j, node in enumerate(one.nodes) if node.kind == "group")
        assert (one.nodes[j].layer, one.nodes[j].index) == (graph.nodes[i].layer, graph.nodes[i].index)
        for name in ("offset", "rest", "influence", "explained"):
            assert getattr(one, name)[j] == pytest.approx(getattr(graph, name)[i], rel=1e-9)
        assert one.nodes[j].value == graph.nodes[i].value


def test_a_latent_is_grouped_over_the_tokens_at_which_it_stands(graphs: tuple[Graph, Graph]) -> None:
    graph = graphs[0]
    groups = by_latent(graph)
    assert groups
    for name, ids in groups.items():
        layer, latent = map(int, name.split("/"))
        assert ids == [n.id for n in graph.nodes if (n.kind, n.layer, n.index) == ("latent", layer, latent)]
        assert len(ids) > 1
    small = collapsed(grouped(graph, groups))
    assert len(small.nodes) == len(graph.nodes) - sum(len(ids) - 1 for ids in groups.values())


def test_a_collapsed_graph_goes_where_graphs_go(graphs: tuple[Graph, Graph]) -> None:
    """Its groups have words, and ids of their own in a public viewer's JSON."""
    small = collapsed(grouped(graphs[0], by_latent(graphs[0])))
    words = [node_words(node) for node in small.nodes if node.kind == "group"]
    assert words and len(set(words)) == len(words)
    told = viewer_graph(small, "s", "scan")["nodes"]
    assert len({node["node_id"] for node in told}) == len(told) > len(words)


def test_unknown_double_and_empty_members_are_refused(graphs: tuple[Graph, Graph]) -> None:
    graph = graphs[0]
    first, second = graph.nodes[1].id, graph.nodes[2].id
    with pytest.raises(UsageError, match="no node 'token:9999@0'"):
        grouped(graph, {"a": ["token:9999@0"]})
    with pytest.raises(UsageError, match="in the supernodes 'a' and 'b'"):
        grouped(graph, {"a": [first, second], "b": [second]})
    with pytest.raises(UsageError, match="'a' has no nodes"):
        grouped(graph, {"a": []})
    a, b = ([node.id for node in graph.nodes if node.kind == kind] for kind in ("error", "position"))
    once = collapsed(grouped(graph, {"a": a}))
    with pytest.raises(UsageError, match="'group:a'"):
        collapsed(grouped(once, {"a": b}))
