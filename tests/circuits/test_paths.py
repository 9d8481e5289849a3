"""Paths and their graph: weights are products of edges, nothing is lost or counted twice, inhibition is found."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
import torch

from families_made import FAMILIES, made_coders, made_lm, made_prompt
from plainspoken.circuits.direct import direct, readers_of, term_node
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.graph import Node
from plainspoken.circuits.merge import merged
from plainspoken.circuits.paths import Paths, strongest_paths
from plainspoken.circuits.targets import Targets, latent_targets, logit_targets, value_of
from plainspoken.errors import ActivationError, UsageError

T = 6
TOKENS = tuple(f"t{i}" for i in range(T))
EVERYTHING = 10**6


def made_frozen(family: str, at: tuple[int, ...] = (0, 2)) -> Frozen:
    lm = made_lm(family)
    return freeze(lm, made_coders(lm, at), made_prompt(T), torch.float64)


def logit(frozen: Frozen, token: int = 3) -> tuple[Targets, Node]:
    return logit_targets(frozen, T - 1, None, [token]), Node("logit", index=token)


def latent_of(frozen: Frozen, node: Node) -> Targets:
    assert node.layer is not None and node.position is not None and node.index is not None
    return latent_targets(frozen, node.layer, torch.tensor([node.position]), torch.tensor([node.index]))


def edge(frozen: Frozen, target: Targets, source: Node) -> float:
    """What a source adds, by one hop, to a target, by its id."""
    found = direct(frozen, readers_of(frozen, target))
    p = int(target.position)
    for place in found.values[0].nonzero().squeeze(1).tolist():
        if term_node(frozen, found.places.term(frozen, place, p), p, TOKENS).id == source.id:
            return float(found.values[0, place])
    raise AssertionError(f"no term {source.id}")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_terms_of_a_path_that_keeps_all_of_them_sum_to_what_it_carries(family: str) -> None:
    frozen = made_frozen(family)
    target, root = logit(frozen)
    paths = strongest_paths(frozen, target, root, TOKENS, rounds=2, width=EVERYTHING, keep=EVERYTHING)
    assert paths.weight[0] == pytest.approx(float(value_of(frozen, target)), rel=1e-9)
    children = defaultdict(list)
    for i, parent in enumerate(paths.parent.tolist()):
        children[parent].append(i)
    assert paths.extended.sum() > 20
    scale = np.abs(paths.weight).max()
    for i in np.flatnonzero(paths.extended).tolist():
        assert paths.weight[children[i]].sum() == pytest.approx(paths.weight[i], abs=1e-9 * scale)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_path_through_latents_is_the_product_of_its_edges(family: str) -> None:
    frozen = made_frozen(family, (0, 1, 2))
    target, root = logit(frozen)
    paths = strongest_paths(frozen, target, root, TOKENS, rounds=3, width=20, keep=100)
    checked = 0
    for i in range(len(paths)):
        steps = [paths.nodes[step] for step in paths.steps(i)]
        if len(steps) < 3 or any(node.kind != "latent" for node in steps[1:-1]) or steps[-1].kind == "own_bias":
            continue
        product = edge(frozen, target, steps[1])
        for above, below in pairwise(steps[1:]):
            # The latent's pre-activation is its z, of which the edge is a share.
            reads = latent_of(frozen, above)
            product *= edge(frozen, reads, below) / float(value_of(frozen, reads))
        assert paths.weight[i] == pytest.approx(product, rel=1e-9)
        checked += 1
        if checked == 40:
            break
    assert checked > 5


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen2", "gemma2"])
def test_a_path_through_heads_and_skips_is_what_the_frozen_parts_make_of_its_last_vector(family: str) -> None:
    """Slow oracle: carry the vector at the path's end forward, part by part, up to the root's direction."""
    frozen = made_frozen(family)
    target, root = logit(frozen)
    paths = strongest_paths(frozen, target, root, TOKENS, rounds=4, width=40, keep=300)
    checked = set()
    for i in paths.rounds[-1]:
        steps = [paths.nodes[step] for step in paths.steps(i)]
        if steps[-1].kind not in ("token", "error", "position"):
            continue
        end = steps[-1]
        assert end.position is not None
        x = frozen.embedded[end.position]
        if end.kind == "error":
            x = frozen.layers[end.layer or 0].error[end.position]
        if end.kind == "position":
            assert frozen.placed is not None
            x = frozen.placed[end.position]
        for node in reversed(steps[1:-1]):
            layer = frozen.layers[node.layer or 0]
            assert node.position is not None
            if node.kind == "head":
                assert node.index is not None and node.reads is not None
                moved = layer.W_O[node.index].T @ (layer.W_V[layer.group[node.index]] @ x)
                x = moved * layer.mix[node.index, node.reads, node.position]
            elif node.kind == "skip":
                assert layer.W_skip is not None
                x = layer.W_skip @ x * layer.skip_factor[node.position]
            else:
                assert node.layer is not None
                start = int(layer.latents.start[node.position])
                entry = start + layer.latents.latent[start:].tolist().index(node.index)
                share = (latent_of(frozen, node).direction[0] @ x) / layer.latents.value[entry]
                x = layer.latents.written[entry] * share
            checked.add(node.kind)
        assert paths.weight[i] == pytest.approx(float(target.direction[0] @ x), rel=1e-8)
    assert checked == {"head", "skip", "latent"}


def test_of_two_equal_contributions_that_which_inhibits_is_found_too() -> None:
    frozen = made_frozen("gpt2")
    target, root = logit(frozen)
    opposite = Targets(target.layer, target.middle, target.position, -target.direction, -target.offset)
    one = strongest_paths(frozen, target, root, TOKENS)
    other = strongest_paths(frozen, opposite, root, TOKENS)
    assert (one.weight[1:] < 0).any() and (one.weight[1:] > 0).any()
    assert [node.id for node in one.nodes] == [node.id for node in other.nodes]
    assert np.allclose(one.weight, -other.weight, rtol=1e-9)


def test_each_round_keeps_the_strongest_of_all_extensions_and_ended_paths() -> None:
    frozen = made_frozen("llama")
    target, root = logit(frozen)
    few = strongest_paths(frozen, target, root, TOKENS, rounds=2, width=EVERYTHING, keep=7)
    all_ = strongest_paths(frozen, target, root, TOKENS, rounds=2, width=EVERYTHING, keep=EVERYTHING)
    first = np.sort(np.abs(all_.weight[all_.parent == 0]))[::-1][:7]
    assert np.allclose(np.abs(few.weight[list(few.rounds[0])]), first)

    def key(paths: Paths, i: int) -> tuple[str, ...]:
        return tuple(paths.nodes[step].id for step in paths.steps(i))

    chosen = {key(few, i) for i in few.rounds[0]}
    ends = [i for i in range(len(all_)) if key(all_, i) in chosen and not all_.extended[i]]
    longer = [i for i in range(len(all_)) if all_.parent[i] > 0 and key(all_, int(all_.parent[i])) in chosen]
    wanted = np.sort(np.abs(all_.weight[ends + longer]))[::-1][:7]
    assert np.allclose(np.abs(few.weight[list(few.rounds[1])]), wanted)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_at_every_node_of_the_graph_all_adds_up_and_all_flows_on(family: str, whole: bool) -> None:
    frozen = made_frozen(family)
    target, root = logit(frozen)
    paths = strongest_paths(frozen, target, root, TOKENS, rounds=4, width=20, keep=60)
    graph = merged(paths, TOKENS, whole)
    assert graph.unit == "root" and len({node.id for node in graph.nodes}) == len(graph.nodes)
    assert np.isclose(graph.nodes[0].value or 0, float(value_of(frozen, target)), rtol=1e-9)
    for i, node in enumerate(graph.nodes):
        onward = graph.weight[graph.source == i].sum()
        entering = graph.weight[graph.target == i]
        if node.value is None:
            assert not len(entering) and graph.offset[i] == 0 and graph.rest[i] == 0 and np.isnan(graph.explained[i])
            continue
        assert entering.sum() + graph.offset[i] + graph.rest[i] == pytest.approx(node.value, rel=1e-9, abs=1e-9)
        assert 0 <= graph.explained[i] <= 1 + 1e-12
        if i:
            assert onward == pytest.approx(node.value, rel=1e-9, abs=1e-9), "what flows in flows on, once"
    assert graph.influence[0] == 1 and (graph.influence >= 0).all()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_some_paths_alone_are_a_graph_in_which_all_others_are_errors_constants_and_rest(
    family: str, whole: bool
) -> None:
    frozen = made_frozen(family)
    target, root = logit(frozen)
    paths = strongest_paths(frozen, target, root, TOKENS, rounds=3, width=20, keep=60)
    chosen = paths.rounds[-1][3:9]
    steps = sorted({0}.union(*map(paths.steps, chosen)))
    some = paths.only(chosen)
    assert [node.id for node in some.nodes] == [paths.nodes[i].id for i in steps]
    assert [steps[i] for i in some.rounds[-1]] == list(chosen)
    assert [[steps[i] for i in some.steps(path)] for path in some.rounds[-1]] == [[*paths.steps(p)] for p in chosen]
    graph, every = merged(some, TOKENS, whole), merged(paths, TOKENS, whole)
    flows: dict[tuple[str, str], float] = defaultdict(float)
    for path in steps[1:]:
        if paths.nodes[path].kind != "own_bias":
            flows[paths.nodes[path].id, paths.nodes[paths.parent[path]].id] += float(paths.weight[path])
    ends = zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True)
    edges = {(graph.nodes[s].id, graph.nodes[t].id): weight for s, t, weight in ends}
    left = {name: weight for name, weight in edges.items() if name not in flows}
    assert {name: edges[name] for name in flows} == pytest.approx(dict(flows), rel=1e-9)
    assert all(graph.nodes[graph.number[source]].layer is None for source, _ in left) and bool(left) == whole
    assert graph.nodes[0].value == every.nodes[0].value and graph.offset[0] == every.offset[0]
    # What the root had by edges of the paths that were left out is now errors, constants or rest.
    into = [sum(weight for (_, target), weight in edges.items() if target == root.id), float(graph.rest[0])]
    assert sum(into) == pytest.approx(every.weight[every.target == 0].sum() + every.rest[0], rel=1e-9)
    assert graph.explained[0] <= every.explained[0]


def test_paths_that_were_not_found_are_refused() -> None:
    frozen = made_frozen("gpt2")
    paths = strongest_paths(frozen, *logit(frozen), TOKENS, rounds=1)
    with pytest.raises(UsageError, match="choose of those"):
        paths.only([len(paths)])
    with pytest.raises(UsageError, match="choose of those"):
        paths.only([-1])
    assert len(paths.only([])) == 1


def test_a_node_that_several_ways_reach_is_one_node_with_their_sum() -> None:
    """A latent that the root reads by itself and through heads of later layers carries all of these together."""
    frozen = made_frozen("gpt2", (0,))
    target, root = logit(frozen)
    paths = strongest_paths(frozen, target, root, TOKENS, rounds=3, width=EVERYTHING, keep=3000)
    graph = merged(paths, TOKENS)
    by_id: dict[str, list[int]] = defaultdict(list)
    for i, node in enumerate(paths.nodes):
        by_id[node.id].append(i)
    shared = [name for name, some in by_id.items() if len(some) > 1 and name.startswith("latent")]
    assert shared
    for name in shared:
        i = graph.number[name]
        assert graph.weight[graph.source == i].sum() == pytest.approx(paths.weight[by_id[name]].sum(), rel=1e-9)


def test_the_rest_is_the_sum_of_the_terms_that_were_not_kept() -> None:
    frozen = made_frozen("gemma2")
    target, root = logit(frozen)
    graph = merged(strongest_paths(frozen, target, root, TOKENS, rounds=1, keep=6), TOKENS)
    values = direct(frozen, readers_of(frozen, target)).values[0]
    left = values[values.abs().argsort(descending=True)[6:]].sum()
    assert graph.offset[0] == pytest.approx(float(target.offset)) and len(graph.nodes) == 7
    assert graph.rest[0] == pytest.approx(float(left), rel=1e-9)
    clean = [e for e in range(6) if graph.nodes[graph.source[e]].kind != "error"]
    assert graph.explained[0] == pytest.approx(np.abs(graph.weight[clean]).sum() / float(values.abs().sum()))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2"])
def test_a_whole_graph_has_all_errors_and_constants_as_nodes_and_the_rest_without_them(family: str) -> None:
    frozen = made_frozen(family)
    target, root = logit(frozen)
    paths = strongest_paths(frozen, target, root, TOKENS, rounds=1, keep=6)
    graph, found = merged(paths, TOKENS, whole=True), direct(frozen, readers_of(frozen, target))
    values = {"error": found.error, "attention_bias": found.attention_bias, "ffn_bias": found.ffn_bias}
    for kind, terms in values.items():
        edges = [e for e in range(len(graph.source)) if graph.nodes[graph.source[e]].kind == kind]
        assert graph.weight[edges].sum() == pytest.approx(float(terms.sum()), rel=1e-9)
        assert all(graph.nodes[graph.source[e]].position == T - 1 for e in edges)
    constants = sum(float(terms.sum()) for terms in values.values())
    kept = [e for e in range(len(graph.source)) if graph.nodes[graph.source[e]].kind not in values]
    left = float(found.values.sum()) - constants - graph.weight[kept].sum()
    assert graph.rest[0] == pytest.approx(left, rel=1e-9)
    errors = float(found.error.abs().sum())
    other = float(found.attention_bias.abs().sum() + found.ffn_bias.abs().sum()) + np.abs(graph.weight[kept]).sum()
    assert other + errors <= float(found.values.abs().sum()) * (1 + 1e-9)
    # Constants of several layers are one edge, in which signs may cancel; what is explained counts their sizes.
    assert graph.explained[0] == pytest.approx(other / float(found.values.abs().sum()), rel=1e-9)


def test_of_given_latents_what_they_are_above_the_coders_own_counts_with_their_bias() -> None:
    lm = made_lm("gpt2")
    coders = made_coders(lm)
    site = next(iter(coders))
    z = torch.rand(T, 48, dtype=torch.float64) * (torch.rand(T, 48) < 0.1)
    frozen = freeze(lm, coders, made_prompt(T), torch.float64, {site: z})
    target, root = logit(frozen)
    paths = strongest_paths(frozen, target, root, TOKENS, rounds=2, width=EVERYTHING, keep=EVERYTHING)
    given = [i for i in np.flatnonzero(paths.extended) if (paths.nodes[i].kind, paths.nodes[i].layer) == ("latent", 0)]
    assert given
    for i in given:
        node, reads = paths.nodes[i], latent_of(frozen, paths.nodes[i])
        assert paths.weight[i] == pytest.approx(edge(frozen, target, node), rel=1e-9)
        assert paths.weight[paths.parent == i].sum() == pytest.approx(paths.weight[i], rel=1e-9, abs=1e-9)
        assert node.activation is not None
        above = node.activation - float(value_of(frozen, reads))
        for_each = paths.weight[i] / node.activation
        assert paths.bias[i] == pytest.approx(for_each * (float(reads.offset) + above), rel=1e-9, abs=1e-9)


def test_the_same_search_twice_gives_the_same_bytes_and_bad_requests_are_refused() -> None:
    frozen = made_frozen("gpt2")
    target, root = logit(frozen)
    one, two = (strongest_paths(frozen, target, root, TOKENS) for _ in range(2))
    assert one.nodes == two.nodes and one.weight.tobytes() == two.weight.tobytes() and one.rounds == two.rounds
    with pytest.raises(UsageError, match="one target"):
        strongest_paths(frozen, logit_targets(frozen, T - 1, None, [1, 2]), root, TOKENS)
    with pytest.raises(UsageError, match="rounds = 0"):
        strongest_paths(frozen, target, root, TOKENS, rounds=0)
    bad = Targets(target.layer, target.middle, target.position, target.direction * float("nan"), target.offset)
    with pytest.raises(ActivationError, match="not finite"):
        strongest_paths(frozen, bad, root, TOKENS)
