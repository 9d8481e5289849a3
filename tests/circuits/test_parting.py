"""Where two circuits part: nowhere from itself, wholly from one that shares nothing, the same places both ways."""

from dataclasses import replace

import numpy as np
import pytest

from families_made import made_coders, made_lm, made_prompt
from plainspoken.circuits.attribution import attribution_graph, root_of
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.parting import overlap, parting
from plainspoken.circuits.targets import logit_targets


@pytest.fixture(scope="module")
def graphs() -> tuple[Graph, Graph]:
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
        root = root_of(frozen, logit_targets(frozen, 7, None, [3]), [Node("logit", 3, 7, 3)])
        found.append(attribution_graph(frozen, root, ["x"] * 8, node_share=1.0, edge_share=1.0))
    return found[0], found[1]


def test_a_circuit_parts_nowhere_from_itself(graphs: tuple[Graph, Graph]) -> None:
    assert overlap(graphs[0], graphs[0]) == pytest.approx(1)
    assert all(part.distance == 0 and part.true == part.simulated for part in parting(graphs[0], graphs[0]))


def test_what_is_not_simulated_is_where_they_part(graphs: tuple[Graph, Graph]) -> None:
    parts = parting(*graphs)
    assert {part.node.index % 2 for part in parts if part.simulated == 0 and part.node.index is not None} == {0}
    assert all(part.true == pytest.approx(part.simulated) for part in parts if (part.node.index or 0) % 2)
    common = overlap(*graphs)
    assert common is not None and 0 < common < 1
    assert common == pytest.approx(overlap(graphs[1], graphs[0]))
    assert [p.distance for p in parts] == sorted((p.distance for p in parts), reverse=True)


def test_circuits_without_latents_have_no_overlap_to_tell(graphs: tuple[Graph, Graph]) -> None:
    none = replace(graphs[0], influence=np.zeros(len(graphs[0].nodes)))
    assert overlap(none, none) is None
