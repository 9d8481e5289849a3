"""Edges by head: the heads and the bypass share each edge out exactly."""

import numpy as np
import pytest
import torch

from families_made import FAMILIES, made_coders, made_lm, made_prompt
from heads_oracle import rows_by_head
from plainspoken.circuits import last_heads
from plainspoken.circuits.adjoint import Columns, columns
from plainspoken.circuits.attribution import Root, attribution_graph, root_of
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.heads import edge_lines, edges_by_head
from plainspoken.circuits.merge import merged
from plainspoken.circuits.paths import strongest_paths
from plainspoken.circuits.targets import latent_targets, logit_targets
from plainspoken.errors import UsageError

TOKENS = tuple(f"t{i}" for i in range(8))


def made_graph(family: str) -> tuple[Frozen, Root, Graph]:
    lm = made_lm(family)
    frozen = freeze(lm, made_coders(lm), made_prompt(8), torch.float64)
    targets = logit_targets(frozen, 7, None, [3, 5])
    roots = root_of(frozen, targets, [Node("logit", index=3), Node("logit", index=5)])
    return frozen, roots, attribution_graph(frozen, roots, TOKENS)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_heads_and_bypass_share_out_every_edge_of_roots_and_latents(family: str) -> None:
    frozen, roots, graph = made_graph(family)
    latents = [i for i in range(len(graph.nodes)) if graph.nodes[i].kind == "latent" and len(graph.incoming(i))]
    assert latents
    some = {node: graph.incoming(node) for node in (0, 1, *latents[:6])}
    for node, found in edges_by_head(frozen, graph, some, roots).items():
        assert found.edges.tolist() == graph.incoming(node).tolist()
        weight = graph.weight[found.edges]
        assert np.allclose(found.bypass + found.heads.sum((0, 1)), weight, rtol=1e-9, atol=1e-9 * np.abs(weight).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_share_is_what_a_walk_for_each_head_gives_and_nodes_together_are_nodes_alone(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents of every layer with a coder, roots, and sources of every kind, walked up in several parts."""
    monkeypatch.setattr(last_heads, "AT_ONCE", 7)
    frozen, roots, graph = made_graph(family)
    entered = [i for i in range(len(graph.nodes)) if graph.nodes[i].kind == "latent" and len(graph.incoming(i))]
    some = {node: graph.incoming(node)[::2] for node in (0, 1, *entered[::5])}
    kinds = {graph.nodes[i].kind for chosen in some.values() for i in graph.source[chosen]}
    assert {"token", "latent", "error"} <= kinds
    assert family != "gpt2" or {"position", "attention_bias", "ffn_bias"} <= kinds
    together, where = edges_by_head(frozen, graph, some, roots), columns(frozen)
    for node, chosen in some.items():
        alone = edges_by_head(frozen, graph, {node: chosen}, roots)[node]
        it = graph.nodes[node]
        target = roots.targets[node : node + 1]
        if node > 1:
            target = latent_targets(frozen, it.layer, torch.tensor([it.position]), torch.tensor([it.index]))
        past, through = rows_by_head(frozen, target)
        at = [column(frozen, where, graph.nodes[i]) for i in graph.source[chosen]]
        size = float(past.abs().max())
        for found in (together[node], alone):
            assert np.abs(found.bypass - past[at, 0].numpy()).max() < 1e-9 * size
            assert np.abs(found.heads - through[:, :, at, 0].numpy()).max() < 1e-9 * size


def column(frozen: Frozen, where: Columns, node: Node) -> int:
    """In which column of a row a source stands."""
    if node.layer is None:
        return (where.token if node.kind == "token" else where.position).start + node.position
    at, latents = where.layers[node.layer], frozen.layers[node.layer].latents
    if node.kind in ("attention_bias", "ffn_bias"):
        return getattr(at, node.kind)
    if node.kind == "error":
        return at.error.start + node.position
    [entry] = ((latents.position == node.position) & (latents.latent == node.index)).nonzero()[0].tolist()
    return at.latents.start + entry


def test_the_top_heads_of_an_edge_are_its_largest_shares() -> None:
    frozen, roots, graph = made_graph("gpt2")
    edge = next(e for e in range(len(graph.source)) if graph.target[e] == 0 and graph.nodes[graph.source[e]].position)
    found = edges_by_head(frozen, graph, {0: np.array([edge])}, roots)[0]
    top = found.top(edge, 5)
    shares = found.heads[:, :, 0]
    assert [abs(each.value) for each in top] == sorted(np.abs(shares[shares != 0]).tolist(), reverse=True)[:5]
    assert all(each.value == shares[each.layer, each.head] for each in top)
    assert all(each.value for each in found.top(edge, 100)), "a head with no share is none of its heads"


def number(told: str) -> float:
    return float(told.replace("−", "-"))


def test_lines_tell_of_each_edge_heads_that_sum_to_it() -> None:
    frozen, roots, graph = made_graph("gpt2")
    found = edges_by_head(frozen, graph, {0: graph.incoming(0)[:5]}, roots)[0]
    lines = edge_lines(graph, found, heads=2)
    assert len(lines) == 5
    for edge, told in zip(graph.incoming(0)[:5], lines, strict=True):
        start, parts = told.rsplit(": ", 1)
        weight, *shares = (number(each.rpartition(" ")[2]) for each in (start, *parts.split(", ")))
        assert weight == pytest.approx(graph.weight[edge], rel=6e-3)
        assert sum(shares) == pytest.approx(weight, abs=0.01 * sum(map(abs, shares)))
        assert parts.count("head ") - parts.count("no head ") <= 2


def test_what_has_no_heads_is_refused() -> None:
    frozen, roots, graph = made_graph("gpt2")
    token = graph.number[next(node.id for node in graph.nodes if node.kind == "token")]
    with pytest.raises(UsageError, match="neither a latent nor one of the roots"):
        edges_by_head(frozen, graph, {token: graph.incoming(token)}, roots)
    with pytest.raises(UsageError, match="edges into one node"):
        edges_by_head(frozen, graph, {0: graph.incoming(1)}, roots)
    paths = strongest_paths(frozen, roots.targets[:1], roots.nodes[0], TOKENS)
    with pytest.raises(UsageError, match="in paths, heads are nodes"):
        edges_by_head(frozen, merged(paths, TOKENS), {0: np.zeros(0, int)})
    other = freeze(frozen.lm, made_coders(frozen.lm), made_prompt(8, 1), torch.float64)
    with pytest.raises(UsageError, match="no source at this prompt"):
        edges_by_head(other, graph, {0: graph.incoming(0)}, roots)
