"""What a graph predicts of ablations, beside what they do."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from families_made import FAMILIES, made_coders, made_lm, made_prompt, made_scene
from plainspoken.circuits.attribution import attribution_graph, latent_node, root_of
from plainspoken.circuits.effects import Effects, Measured, effects, measure
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.intervene import Intervention, logits_after
from plainspoken.circuits.respond import respond
from plainspoken.circuits.supernodes import collapsed, grouped
from plainspoken.circuits.targets import firing_targets, logit_targets
from plainspoken.circuits.totals import totals
from plainspoken.errors import UsageError


def _logits(frozen: Frozen, node_share: float = 0.8, edge_share: float = 0.98):
    nodes = [Node("logit", position=8, index=i) for i in (3, 5)]
    root = root_of(frozen, logit_targets(frozen, 8, None, [3, 5]), nodes)
    return root, attribution_graph(frozen, root, [str(i) for i in range(9)], node_share, edge_share)


def _ablation(node: Node) -> list[Intervention]:
    assert node.layer is not None and node.index is not None and node.position is not None
    return [Intervention(node.layer, node.index, (node.position,))]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sum_over_paths_is_what_the_frozen_model_answers_linearly(family: str) -> None:
    """Of a whole graph: products of edges on one side, a change walked up on the other."""
    frozen = made_scene(family).frozen
    root, graph = _logits(frozen, 1.0, 1.0)
    total = np.stack([totals(graph, r) for r in (0, 1)], 1)
    some = [i for i, node in enumerate(graph.nodes) if node.kind == "latent" and node.layer == 0][::9]
    for i in some:
        change = respond(frozen, _ablation(graph.nodes[i]), "linear").of(root.targets).numpy()
        assert np.abs(change + total[i]).max() < 1e-9 * np.abs(total).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_whole_graph_direct_effects_are_what_the_frozen_model_gives(family: str) -> None:
    frozen = made_scene(family).frozen
    root, graph = _logits(frozen, 1.0, 1.0)
    found = effects(frozen, root, graph, 2)
    for row, node in enumerate(found.measured.latents):
        change = respond(frozen, _ablation(node), "held").of(root.targets).numpy()
        assert np.abs(found.direct[row] - change).max() < 1e-9 * np.abs(found.direct).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_measured_in_the_model_is_the_change_of_its_logits(family: str) -> None:
    frozen = made_scene(family).frozen
    root, graph = _logits(frozen)
    node = next(node for node in graph.nodes if node.kind == "latent")
    found, cap = measure(frozen, root, [node]), getattr(frozen.lm.model.config, "final_logit_softcapping", None)
    for attention in ("held", "free"):
        logits = [logits_after(frozen, each, attention)[8] for each in ([], _ablation(node))]
        logits = [cap * torch.atanh(each / cap) if cap else each for each in logits]
        before, after = (each[[3, 5]] - each.mean() for each in logits)
        np.testing.assert_allclose(getattr(found, attention)[0], after - before, rtol=1e-4, atol=1e-6)


def test_nothing_answers_the_last_layers_latents_but_the_final_norm() -> None:
    """What is replaced, and what is predicted, directly or in all, are one; and so are attention held and free."""
    frozen = made_scene("gpt2").frozen
    root, graph = _logits(frozen, 1.0, 1.0)
    last = [i for i, node in enumerate(graph.nodes) if node.kind == "latent" and node.layer == 2][-3:]
    found, size = measure(frozen, root, [graph.nodes[i] for i in last]), np.abs(graph.weight).max()
    for row, i in enumerate(last):
        for r in (0, 1):
            (edge,) = graph.weight[(graph.source == i) & (graph.target == r)]
            assert abs(totals(graph, r)[i] - edge) < 1e-9 * size
            assert abs(found.replaced[row, r] + edge) < 1e-9 * size
    assert np.abs(found.held - found.free).max() < 1e-5 * size


def test_a_latent_is_a_root_too_and_the_control_lies_outside_the_graph_and_before_it() -> None:
    frozen = made_scene("gpt_neox-serial").frozen
    targets, latents = firing_targets(frozen, 2, slice(30, 31)), frozen.layers[2].latents
    node = Node("latent", 2, int(latents.position[30]), int(latents.latent[30]))
    root = root_of(frozen, targets, [node])
    graph = attribution_graph(frozen, root, [str(i) for i in range(9)], 0.5)
    found = effects(frozen, root, graph, 5)
    inside = {each.id for each in graph.nodes}
    assert found.roots[0].id == node.id and 0 < len(found.measured.latents) <= 5
    assert all(each.id in inside for each in found.measured.latents)
    assert all(each.id not in inside and each.layer == 0 for each in found.control.latents)
    assert all((each.position or 0) <= (node.position or 0) for each in found.control.latents)
    assert len(found.control.latents) == len(found.measured.latents)
    assert (found.measured.free != 0).any()


def test_the_control_has_the_layers_and_tokens_of_the_graphs_latents_as_far_as_there_are_others() -> None:
    frozen = made_scene("gpt_neox-serial").frozen
    root, graph = _logits(frozen, 0.65)
    found = effects(frozen, root, graph, 6, seed=3)
    inside, drawn = {node.id for node in graph.nodes}, [node.id for node in found.control.latents]
    assert len(set(drawn)) == len(drawn) == len(found.measured.latents) > 3
    everything = [latent_node(frozen, layer, i) for layer in (0, 2) for i in range(len(frozen.layers[layer].latents))]
    outside = [node for node in everything if node.id not in inside]
    places, others = (
        Counter((node.layer, node.position) for node in each) for each in (found.measured.latents, outside)
    )
    assert Counter((node.layer, node.position) for node in found.control.latents) == places, "there are others at each"
    assert found.matched == len(drawn) and all(others[place] >= n for place, n in places.items())


def test_where_no_other_fires_at_a_token_the_control_stands_at_the_nearest_and_takes_no_others_place() -> None:
    frozen = made_scene("gpt_neox-serial").frozen
    root, whole = _logits(frozen, 1.0)
    inside = [i for i, node in enumerate(whole.nodes) if i < 2 or node.kind != "latent"]
    mine = [i for i, node in enumerate(whole.nodes) if node.kind == "latent" and (node.layer, node.position) == (0, 8)]
    spare, taken = mine[-1], mine[:-1]  # at this token all but one are of the graph
    kept, none = [*inside, *taken], np.zeros(0, int)
    numbers = {name: getattr(whole, name)[kept] for name in ("influence", "offset", "rest", "explained")}
    nodes = tuple(whole.nodes[i] for i in kept)
    graph = replace(whole, nodes=nodes, source=none, target=none, weight=np.zeros(0), **numbers)
    found = effects(frozen, root, graph, len(taken))
    assert found.matched == 1 and found.control.latents[0].id == whole.nodes[spare].id, "those in the very places first"
    near = [node for node in found.control.latents if node.position != 8]
    assert {node.layer for node in near} == {0}
    there = [p for p in frozen.layers[0].latents.position.tolist() if p != 8]
    assert sorted(node.position for node in near) == sorted(sorted(there, key=lambda p: 8 - p)[: len(near)])


def test_the_same_seed_draws_the_same_control() -> None:
    frozen = made_scene("llama").frozen
    root, graph = _logits(frozen, 0.65)
    one, same, other = (effects(frozen, root, graph, 2, seed) for seed in (0, 0, 1))
    assert [n.id for n in one.control.latents] == [n.id for n in same.control.latents]
    assert [n.id for n in one.control.latents] != [n.id for n in other.control.latents]
    assert np.array_equal(one.control.free, same.control.free) and np.array_equal(
        one.measured.free, other.measured.free
    )
    assert one.correlation("direct", "free") == same.correlation("direct", "free")


def test_in_which_precision_the_model_ran_is_told() -> None:
    for dtype, told in ((torch.float64, "float64"), (torch.bfloat16, "bfloat16")):
        torch.manual_seed(0)
        lm = made_lm("gpt2", dtype=dtype)
        frozen = freeze(lm, {site: coder.float() for site, coder in made_coders(lm).items()}, made_prompt(9))
        root, graph = _logits(frozen)
        assert effects(frozen, root, graph, 2).dtype == told


def _made(direct: np.ndarray, free: np.ndarray) -> Effects:
    nodes = tuple(Node("latent", 0, i, i) for i in range(len(direct)))
    measured = Measured(nodes, free, free, free)
    none = Measured((), free[:0], free[:0], free[:0])
    return Effects((Node("logit", position=0, index=0),), direct, direct, measured, none, 0)


def test_a_correlation_is_one_where_all_is_foretold_and_there_is_none_where_nothing_varies() -> None:
    x = np.random.default_rng(0).normal(size=(40, 1))
    perfect = _made(x, 2 * x).correlation("direct", "free")
    assert perfect is not None and min(perfect.value, perfect.low) > 1 - 1e-9
    noise = _made(x, np.random.default_rng(1).normal(size=(40, 1))).correlation("direct", "free")
    assert noise is not None and noise.low < 0 < noise.high and noise.low <= noise.value <= noise.high
    assert _made(x, 0 * x).correlation("direct", "free") is None
    assert _made(x[:2], x[:2]).correlation("direct", "free") is None
    assert np.isnan(_made(x, x).size("free")[1])


def test_graphs_of_other_roots_or_without_latents() -> None:
    frozen = made_scene("llama").frozen
    root, graph = _logits(frozen)
    other = root_of(frozen, logit_targets(frozen, 8, None, [4]), [Node("logit", position=8, index=4)])
    with pytest.raises(UsageError, match=r"other roots.*give the roots"):
        effects(frozen, other, graph)
    torch.manual_seed(0)
    lm = made_lm("llama", 1)
    bare = freeze(lm, {}, made_prompt(9), torch.float64)
    root, graph = _logits(bare)
    with pytest.raises(UsageError, match="no latents to ablate"):
        effects(bare, root, graph)


def test_a_direction_below_the_final_norm_cannot_be_measured() -> None:
    frozen = made_scene("llama").frozen
    targets = firing_targets(frozen, 2, slice(0, 1))
    root = root_of(frozen, targets, [Node("direction", 2, label="d")])
    with pytest.raises(UsageError, match="measured on latents"):
        measure(frozen, root, [Node("latent", 0, 0, 0)])


def test_totals_need_edges_in_their_own_units() -> None:
    none = np.zeros(0)
    graph = Graph((), none.astype(int), none.astype(int), none, none, none, none, none, (), unit="root")
    with pytest.raises(UsageError, match="build the graph with unit 'own'"):
        totals(graph, 0)


def test_totals_through_what_is_no_latent_are_refused() -> None:
    """A group hands on what enters it by no one factor; one that is only a source is as good as its members."""
    frozen = made_scene("gpt2").frozen
    _, graph = _logits(frozen, 1.0, 1.0)
    between = [n.id for n in graph.nodes if n.kind == "latent" and n.layer == 2]
    small = collapsed(grouped(graph, {"between": between}))
    with pytest.raises(UsageError, match=r"group:2:between@8.*before its supernodes are collapsed"):
        totals(small, 0)
    errors = [n.id for n in graph.nodes if n.kind == "error"]
    small, whole = collapsed(grouped(graph, {"errors": errors})), totals(graph, 0)
    found = totals(small, 0)
    for i, node in enumerate(small.nodes):
        members = errors if node.kind == "group" else [node.id]
        assert found[i] == pytest.approx(sum(whole[graph.number[each]] for each in members), rel=1e-9, abs=1e-9)
