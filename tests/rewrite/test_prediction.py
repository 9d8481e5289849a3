"""Predictions of a batch of rows, shuffling, edits taken back, and where in a row the rewrite stands."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.errors import RunError
from plainspoken.rewrite import Coverage, Prediction, drawn, permuted, shuffle, spans
from plainspoken.types import Pairs
from planted import LATENTS, Planted, fallible, make_simulation


def dense(simulation) -> np.ndarray:
    """Levels [row, t, latents]."""
    out = np.zeros((simulation.rows * simulation.t, simulation.latents), np.float32)
    out[simulation.position, simulation.latent] = simulation.level
    return out.reshape(simulation.rows, simulation.t, simulation.latents)


def expected(prediction: Prediction, level: np.ndarray, sizes: bool = False) -> np.ndarray:
    """Activations [n, latents] for dense levels [n, latents]."""
    curves = prediction.sizes if sizes else prediction.calibration
    latent = np.tile(np.arange(LATENTS), (len(level), 1))
    found = curves.apply(latent.ravel(), level.astype(np.float32).ravel()).reshape(level.shape)
    return np.where(prediction.explained, found, 0)


@pytest.mark.parametrize("calibrator", ["none", "conditional_mean"])
def test_values_of_any_rows_cut_anywhere_are_those_of_the_dense_levels(planted: Planted, calibrator):
    material = planted.material(fallible, calibrator, explained=np.arange(LATENTS) % 5 != 0)
    prediction, rows, rng = material.prediction, planted.evaluate, np.random.default_rng(0)
    level = dense(prediction.simulation)
    for width in (16, 9):
        chosen = rng.permutation(len(rows.tokens))[:4]
        spliced = rows.mask[chosen, :width] & (rng.random((4, width)) < 0.7)
        here = level[chosen, :width][spliced]
        np.testing.assert_array_equal(prediction.values(chosen, spliced), expected(prediction, here))
        np.testing.assert_array_equal(prediction.values(chosen, spliced, sizes=True), expected(prediction, here, True))
        np.testing.assert_array_equal(prediction.heard(chosen, spliced), here > 0)


def test_shuffling_hands_round_explanations_of_explained_latents_and_leaves_none_its_own():
    explained = np.arange(40) % 3 != 0
    permutation = shuffle(explained, 0)
    assert sorted(permutation) == list(range(40))
    assert (permutation[explained] != np.flatnonzero(explained)).all()
    assert (permutation[~explained] == np.flatnonzero(~explained)).all()
    np.testing.assert_array_equal(permutation, shuffle(explained, 0))
    assert (permutation != shuffle(explained, 1)).any()


@pytest.mark.parametrize("explained", [0, 1, 2])
def test_fewer_than_two_explanations_cannot_be_shuffled(planted: Planted, explained: int):
    alone = np.arange(LATENTS) < explained
    assert (shuffle(alone, 0) is None) == (explained < 2)
    material = planted.material(fallible, "conditional_mean", explained=alone)
    for control in (material.shuffled, material.refitted):  # never the identity, which would be the rewrite itself
        assert (control is None) == (explained < 2)
        assert control is None or control.digests[0] != material.prediction.digests[0]


def test_a_permuted_simulation_says_of_each_latent_what_was_said_of_another(planted: Planted):
    simulation = planted.material(fallible).prediction.simulation
    permutation = shuffle(np.ones(LATENTS, bool), 0)
    found = permuted(simulation, permutation)
    np.testing.assert_array_equal(dense(found), dense(simulation)[:, :, permutation])
    keys = found.position * LATENTS + found.latent
    assert (np.diff(keys) > 0).all()


def test_a_shuffled_latent_keeps_its_own_calibration(planted: Planted):
    material = planted.material(fallible, "quantile")
    rows, permutation = planted.evaluate, shuffle(np.ones(LATENTS, bool), 0)
    every, level = np.arange(len(rows.tokens)), dense(material.prediction.simulation)[:, :, permutation]
    np.testing.assert_array_equal(
        material.shuffled.values(every, rows.mask), expected(material.prediction, level[rows.mask])
    )
    assert not torch.equal(material.refitted.values(every, rows.mask), material.shuffled.values(every, rows.mask))


def test_latents_of_another_prediction_bring_all_that_is_theirs(planted: Planted):
    first = planted.material(fallible, "conditional_mean").prediction
    second = planted.material(lambda rows: fallible(rows, 1), "quantile", explained=np.arange(LATENTS) != 5).prediction
    mixed, taken = first.with_latents_of(second, np.array([2, 5])), np.isin(np.arange(LATENTS), [2, 5])
    every, mask = np.arange(len(planted.evaluate.tokens)), planted.evaluate.mask
    for sizes in (False, True):
        mine, theirs = (p.values(every, mask, sizes=sizes) for p in (first, second))
        found = mixed.values(every, mask, sizes=sizes)
        np.testing.assert_array_equal(found, np.where(taken, theirs, mine))
    for latent in range(LATENTS):
        source = second if taken[latent] else first
        assert mixed.digests[latent] == source.digests[latent]


def test_a_digest_changes_with_what_the_latent_is_told_and_with_nothing_else(planted: Planted):
    before = planted.material(fallible).prediction
    simulation = before.simulation
    entry = int(np.flatnonzero(simulation.latent == 7)[0])
    level = simulation.level.copy()
    level[entry] += 1
    changed = Prediction(
        make_simulation(planted.evaluate, dense(simulation)), before.calibration, before.sizes, before.explained
    )
    assert changed.digests == before.digests
    louder = type(simulation)(
        simulation.position, simulation.latent, level, LATENTS, simulation.rows, simulation.t, "elsewhere"
    )
    other = Prediction(louder, before.calibration, before.sizes, before.explained)
    assert [i for i in range(LATENTS) if other.digests[i] != before.digests[i]] == [7]


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5))
def test_spans_are_what_they_say(mask):
    mask = np.array(mask)
    every, last = spans(mask, "all"), spans(mask, "last")
    for row in range(len(mask)):
        for i in range(6):
            assert every.spliced[row, i] == mask[row, i]
            assert every.measured[row, i] == (i + 1 < 6 and mask[row, i + 1])
        both = [i for i in range(5) if mask[row, i] and mask[row, i + 1]]
        assert list(np.flatnonzero(last.spliced[row])) == both[-1:]
    np.testing.assert_array_equal(last.spliced, last.measured)


def test_a_pair_without_an_answer_is_silent_and_counted_and_no_other_changes(planted: Planted):
    before = planted.material(fallible, "conditional_mean", explained=np.arange(LATENTS) != 5).prediction
    rows, rng = planted.evaluate, np.random.default_rng(0)
    gap = (rng.random((*rows.tokens.shape, LATENTS)) < 0.2) & (dense(before.simulation) == 0)
    simulation = before.simulation.with_missing(*np.nonzero(gap.reshape(-1, LATENTS)))
    after = Prediction(simulation, before.calibration, before.sizes, before.explained)
    for width in (16, 9):
        chosen = rng.permutation(len(rows.tokens))[:4]
        spliced = rows.mask[chosen, :width] & (rng.random((4, width)) < 0.7)
        here = gap[chosen, :width][spliced]
        for sizes in (False, True):
            said = before.values(chosen, spliced, sizes=sizes)
            np.testing.assert_array_equal(after.values(chosen, spliced, sizes=sizes), np.where(here, 0, said))
        np.testing.assert_array_equal(after.heard(chosen, spliced), before.heard(chosen, spliced))
    some = np.arange(LATENTS) < 9
    found, counted = after.coverage(rows.mask, some), some & before.explained
    assert found.asked == rows.mask.sum() * 8
    assert found.asked - found.answered == gap[rows.mask][:, counted].sum() > 0
    assert before.coverage(rows.mask, some).share == 1
    assert before.coverage(rows.mask, np.zeros(LATENTS, bool)).share is None
    changed = gap.reshape(-1, LATENTS).any(axis=0)
    assert [a != b for a, b in zip(after.digests, before.digests, strict=True)] == changed.tolist()


def test_of_a_gate_s_pairs_those_alone_were_asked_that_passed(planted: Planted):
    """A gate that lets little through must not hide that nothing of it was answered."""
    before, rows = planted.material(fallible).prediction, planted.evaluate
    passes = (np.random.default_rng(0).random((rows.tokens.size, LATENTS)) < 0.02) & rows.mask.reshape(-1, 1)
    passes[:, 3] = False
    nothing = np.zeros(0, np.int64)
    bare = before.simulation.with_entries(nothing, nothing, np.zeros(0, np.float32))
    silent = replace(bare.with_missing(*np.nonzero(passes)), passed=Pairs(*np.nonzero(passes)))
    prediction = replace(before, simulation=silent)
    every, one = np.ones(LATENTS, bool), np.arange(LATENTS) == 3
    assert prediction.coverage(rows.mask, every) == Coverage(int(passes.sum()), 0)
    assert prediction.coverage(rows.mask, one).share is None, "of this latent nothing was asked"
    last = spans(rows.mask, "last").spliced
    assert prediction.coverage(last, every).asked == passes[last.ravel()].sum()


def test_nothing_is_spliced_where_the_simulator_was_not_asked(planted: Planted):
    before, rows = planted.material(fallible).prediction, planted.evaluate
    last = spans(rows.mask, "last").spliced
    asked = replace(before.simulation, asked=last)
    prediction, every = Prediction(asked, before.calibration, before.sizes, before.explained), np.arange(len(last))
    assert prediction.values(every, last).shape == (last.sum(), LATENTS)
    with pytest.raises(RunError, match=r"not asked about .* --force simulate"):
        prediction.values(every, rows.mask)


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(1, 7))
def test_so_many_tokens_of_a_row_are_drawn_by_the_seed(mask, count: int):
    mask = np.array(mask)
    found = drawn(mask, count, 0)
    assert not (found & ~mask).any()
    np.testing.assert_array_equal(found.sum(axis=1), np.minimum(mask.sum(axis=1), count))
    np.testing.assert_array_equal(found, drawn(mask, count, 0))
