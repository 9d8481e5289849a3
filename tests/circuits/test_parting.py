"""Where two circuits part: nowhere from itself, wholly from one that shares nothing, the same places both ways."""

from dataclasses import replace

import numpy as np
import pytest

from families_made import made_coders, made_lm, made_prompt
from plainspoken.circuits.attribution import attribution_graph, root_of
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.parting import overlap, parting
from plainspoken.circuits.targets import firing_targets, logit_targets


@pytest.fixture(scope="module")
def both() -> tuple[tuple[Frozen, Graph], tuple[Frozen, Graph]]:
    """(of true activations, of activations halved)."""
    lm = made_lm("llama")
    coders, tokens = made_coders(lm), made_prompt(8)
    true = freeze(lm, coders, tokens, lm.dtype)
    given = {}
    for site, coder in coders.items():
        layer = true.anatomy.layer_of(site.module)
        assert layer is not None
        at = true.layers[layer].latents
        z = at.value.new_zeros(8, coder.spec.latents)
        z[at.position, at.latent] = at.value * (at.latent % 2)
        given[site] = z
    found = []
    for frozen in (true, freeze(lm, coders, tokens, lm.dtype, given)):
        root = root_of(frozen, logit_targets(frozen, 7, None, [3]), [Node("logit", position=7, index=3)])
        found.append((frozen, attribution_graph(frozen, root, ["x"] * 8, node_share=1.0, edge_share=1.0)))
    return found[0], found[1]


def test_a_circuit_parts_nowhere_from_itself(both: tuple[tuple[Frozen, Graph], tuple[Frozen, Graph]]) -> None:
    assert overlap(both[0][1], both[0][1]) == pytest.approx(1)
    assert all(part.distance == 0 and part.true == part.simulated for part in parting(both[0], both[0]))


def test_what_is_not_simulated_is_where_they_part(both: tuple[tuple[Frozen, Graph], tuple[Frozen, Graph]]) -> None:
    parts = parting(*both)
    assert {part.node.index % 2 for part in parts if part.simulated_share is None and part.node.index is not None} == {
        0
    }
    assert all(part.simulated == (part.true if (part.node.index or 0) % 2 else 0) for part in parts)
    common = overlap(both[0][1], both[1][1])
    assert common is not None and 0 < common < 1
    assert common == pytest.approx(overlap(both[1][1], both[0][1]))
    assert [p.distance for p in parts] == sorted((p.distance for p in parts), reverse=True)


def test_a_latent_that_is_pruned_keeps_its_activation(both: tuple[tuple[Frozen, Graph], tuple[Frozen, Graph]]) -> None:
    frozen, _ = both[0]
    root = root_of(frozen, logit_targets(frozen, 7, None, [3]), [Node("logit", position=7, index=3)])
    few = attribution_graph(frozen, root, ["x"] * 8, node_share=0.3)
    parts = parting((frozen, few), both[0])
    assert any(part.true_share is None for part in parts)
    assert all(part.true == part.simulated != 0 for part in parts)


def test_what_is_explained_is_no_agreement() -> None:
    """Two circuits of one latent that have only that in common share nothing."""
    lm = made_lm("llama")
    coders, tokens = made_coders(lm), made_prompt(8)
    frozen = freeze(lm, coders, tokens, lm.dtype)
    targets = firing_targets(frozen, 2, slice(0, 1))
    at = frozen.layers[2].latents
    root = root_of(frozen, targets, [Node("latent", 2, int(at.position[0]), int(at.latent[0]))])
    graph = attribution_graph(frozen, root, ["x"] * 8, node_share=1.0, edge_share=1.0)
    latent = np.array([node.kind == "latent" for node in graph.nodes])
    keep = ~latent[graph.source]
    none = replace(graph, source=graph.source[keep], target=graph.target[keep], weight=graph.weight[keep])
    assert overlap(graph, none) in (None, 0.0)
    assert root.nodes[0].id not in {part.node.id for part in parting((frozen, graph), (frozen, graph))}


def test_circuits_without_latents_have_no_overlap_to_tell(
    both: tuple[tuple[Frozen, Graph], tuple[Frozen, Graph]],
) -> None:
    none = replace(both[0][1], influence=np.zeros(len(both[0][1].nodes)))
    assert overlap(none, none) is None
