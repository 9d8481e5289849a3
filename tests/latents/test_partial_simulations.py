"""Partial simulations against a dense slow oracle: who was asked, who did not answer, and what follows from that."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.calibrators import calibrator_named
from plainspoken.errors import RunError
from plainspoken.latents.evidence import Evidence
from plainspoken.pipeline.shelves import load_simulation, load_tensors, save_simulation, save_tensors
from plainspoken.scorers.simulation import MEASURES, score_simulation
from plainspoken.types import Pairs, Simulation
from planted import LATENTS, fallible, make_rows, maximum, table_of

ROWS, T, FEW = 4, 5, 3
seeds = st.integers(0, 10_000)


def draw(seed: int, asked: bool = True, discarded: bool = True, gate: bool = False) -> Simulation:
    """A small simulation with levels, pairs without an answer, and tokens not asked about; `gate`: and pairs."""
    rng = np.random.default_rng(seed)
    token = np.random.default_rng(0).random((ROWS, T)) < 0.7 if asked else None
    kind = rng.integers(0, 3, (ROWS * T, FEW)) * (1 if token is None else token.reshape(-1, 1))
    passes = rng.random(kind.shape) < 0.6 if gate else np.ones(kind.shape, bool)
    passes &= np.ones(kind.shape, bool) if token is None else token.reshape(-1, 1)
    kind *= passes
    position, latent = np.nonzero(kind == 1)
    missing = np.nonzero(kind == 2)
    level = rng.integers(1, 10, len(position)).astype(np.float32)
    mass = rng.random(FEW) if discarded else None
    passed = Pairs(*np.nonzero(passes)) if gate else None
    return Simulation(position, latent, level, FEW, ROWS, T, "rows", token, *missing, mass, passed=passed)


def dense(simulation: Simulation) -> np.ndarray:
    """Levels [row, t, latents]: NaN where not asked, -1 where there was no answer."""
    out = np.zeros((simulation.rows * simulation.t, simulation.latents))
    out[simulation.position, simulation.latent] = simulation.level
    out[simulation.missing_position, simulation.missing_latent] = -1
    if simulation.asked is not None:
        out[~simulation.asked.ravel()] = np.nan
    return out.reshape(simulation.rows, simulation.t, simulation.latents)


@given(seeds, st.booleans(), st.integers(0, ROWS), st.integers(0, ROWS))
def test_a_stretch_of_rows_is_that_stretch(seed: int, asked: bool, one: int, other: int):
    simulation, low, high = draw(seed, asked), min(one, other), max(one, other)
    np.testing.assert_array_equal(dense(simulation.between(low, high)), dense(simulation)[low:high])
    assert simulation.between(low, high).discarded is None  # a mean over all the rows is none over some


@given(seeds, seeds, st.booleans(), st.lists(st.integers(0, FEW - 1), unique=True))
def test_latents_taken_from_another_bring_what_they_lack_as_well(one: int, other: int, asked: bool, latents: list[int]):
    first, second, taken = draw(one, asked), draw(other, asked), np.isin(np.arange(FEW), latents)
    mixed = first.with_latents_of(second, np.array(latents, np.int64))
    np.testing.assert_array_equal(dense(mixed), np.where(taken, dense(second), dense(first)))
    np.testing.assert_array_equal(mixed.discarded, np.where(taken, second.discarded, first.discarded))
    for position, latent in ((mixed.position, mixed.latent), (mixed.missing_position, mixed.missing_latent)):
        assert (np.diff(position * FEW + latent) > 0).all()


def test_what_was_discarded_is_unknown_of_latents_of_a_simulation_that_does_not_tell():
    mixed = draw(0).with_latents_of(draw(1, discarded=False), np.array([1]))
    np.testing.assert_array_equal(np.isnan(mixed.discarded), [False, True, False])


def test_simulations_asked_about_other_tokens_do_not_mix():
    with pytest.raises(RunError, match="--force simulate"):
        draw(0).with_latents_of(draw(1, asked=False), np.array([1]))


def let_through(simulation: Simulation) -> np.ndarray:
    """bool[row, t, latents]: which pairs passed the gate."""
    assert simulation.passed is not None
    out = np.zeros((simulation.rows * simulation.t, simulation.latents), bool)
    out[simulation.passed.position, simulation.passed.latent] = True
    assert out.sum() == len(simulation.passed)
    assert (np.diff(simulation.passed.position.astype(np.int64) * FEW + simulation.passed.latent) > 0).all()
    return out.reshape(simulation.rows, simulation.t, simulation.latents)


@given(seeds, seeds, st.booleans(), st.permutations(range(FEW)), st.lists(st.integers(0, FEW - 1), unique=True))
def test_what_passed_a_gate_goes_where_its_levels_go(one, other, asked, permutation, latents):
    first, second = draw(one, asked, gate=True), draw(other, asked, gate=True)
    passed, taken = let_through(first), np.isin(np.arange(FEW), latents)
    np.testing.assert_array_equal(let_through(first.between(1, 3)), passed[1:3])
    np.testing.assert_array_equal(let_through(first.permuted(np.array(permutation))), passed[:, :, permutation])
    mixed = first.with_latents_of(second, np.array(latents, np.int64))
    np.testing.assert_array_equal(let_through(mixed), np.where(taken, let_through(second), passed))


@given(seeds, st.booleans(), st.booleans())
def test_pairs_asked_about_are_those_of_the_tokens_asked_about_that_passed(seed: int, asked: bool, gate: bool):
    simulation = draw(seed, asked, gate=gate)
    tokens = np.random.default_rng(seed).random((ROWS, T)) < 0.5
    about = np.broadcast_to(tokens[:, :, None], (ROWS, T, FEW))
    if simulation.asked is not None:
        about = about & simulation.asked[:, :, None]
    if gate:
        about = about & let_through(simulation)
    count, lacking = simulation.pairs_by_latent(tokens)
    np.testing.assert_array_equal(count, about.sum(axis=(0, 1)))
    np.testing.assert_array_equal(lacking, (about & (dense(simulation) == -1)).sum(axis=(0, 1)))


def test_a_simulation_with_a_gate_does_not_mix_with_one_without():
    with pytest.raises(RunError, match="--force simulate"):
        draw(0, gate=True).with_latents_of(draw(1), np.array([1]))


@given(seeds, st.permutations(range(FEW)))
def test_explanations_handed_round_take_their_gaps_along(seed: int, permutation: list[int]):
    simulation = draw(seed)
    found = simulation.permuted(np.array(permutation))
    np.testing.assert_array_equal(dense(found), dense(simulation)[:, :, permutation])
    np.testing.assert_array_equal(found.discarded, simulation.discarded[permutation])


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("gate", [True, False])
def test_a_simulation_is_read_back_whole(tmp_path: Path, asked: bool, gate: bool):
    path, simulation = tmp_path / "s.safetensors", draw(3, asked, asked, gate)
    save_simulation(path, simulation, np.zeros((FEW, 32), np.uint8), "someone")
    found = load_simulation(path)[0]
    np.testing.assert_array_equal(dense(found), dense(simulation))
    assert (found.discarded is None) == (simulation.discarded is None)
    assert found.complete == simulation.complete
    assert (found.passed is None) == (not gate)
    if gate:
        np.testing.assert_array_equal(let_through(found), let_through(simulation))


def test_a_simulation_of_before_it_could_be_partial_is_a_complete_one(tmp_path: Path):
    path, simulation = tmp_path / "s.safetensors", draw(3, asked=False).with_missing(*np.zeros((2, 0), np.int64))
    save_simulation(path, simulation, np.zeros((FEW, 32), np.uint8), "someone")
    tensors = load_tensors(path)
    save_tensors(
        path, {n: a for n, a in tensors.items() if n not in ("missing_position", "missing_latent", "discarded")}
    )
    found = load_simulation(path)[0]
    assert found.complete
    np.testing.assert_array_equal(dense(found), dense(simulation))


def partial(seed: int, unseen: tuple[int, ...] = ()) -> tuple[Simulation, np.ndarray]:
    """(a simulation of planted latents with gaps, which pairs [position, latent] of the text it tells of)."""
    rng, rows = np.random.default_rng(seed), make_rows("calibrate", documents=20)
    level, asked = fallible(rows, seed), rng.random(rows.mask.shape) < 0.8
    gap = rng.random(level.shape) < 0.2
    gap[:, :, list(unseen)] = True
    gap &= asked[:, :, None]
    listed = np.where(gap | ~asked[:, :, None], 0, level).reshape(-1, LATENTS)
    position, latent = np.nonzero(listed)
    missing = np.nonzero(gap.reshape(-1, LATENTS))
    simulation = Simulation(
        position, latent, listed[position, latent].astype(np.float32), LATENTS, *rows.tokens.shape, rows.fingerprint,
        asked, *missing,
    )  # fmt: skip
    return simulation, ((rows.mask & asked)[:, :, None] & ~gap).reshape(-1, LATENTS)


@given(seeds)
def test_evidence_is_of_the_pairs_that_were_answered_alone(seed: int):
    simulation, seen = partial(seed)
    table = table_of(make_rows("calibrate", documents=20))
    evidence = Evidence.over(simulation, table)
    said, true = np.zeros(seen.shape, np.float32), np.zeros(seen.shape)
    said[simulation.position, simulation.latent] = simulation.level
    true[table.position, np.repeat(np.arange(LATENTS), np.diff(table.pointer))] = table.value
    for latent in range(LATENTS):
        here, ours = seen[:, latent], slice(evidence.pointer[latent], evidence.pointer[latent + 1])
        told, truth = said[here, latent], true[here, latent]
        for level, weight, total, square, fired in zip(
            evidence.level[ours], evidence.weight[ours], evidence.total[ours], evidence.square[ours],
            evidence.fired[ours], strict=True,
        ):  # fmt: skip
            at = told == level
            assert weight == at.sum()
            np.testing.assert_allclose((total, square), (truth[at].sum(), (truth[at] ** 2).sum()))
            assert fired == (truth[at] > 0).sum()
        assert set(told) <= set(evidence.level[ours])
        mine = slice(evidence.true_pointer[latent], evidence.true_pointer[latent + 1])
        np.testing.assert_array_equal(evidence.true_value[mine], np.sort(truth[truth > 0]))


@pytest.mark.parametrize("calibrator", ["linear", "quantile", "conditional_mean"])
def test_a_latent_of_which_nothing_was_answered_gets_its_mean_and_no_score(calibrator: str):
    simulation, _ = partial(0, unseen=(2, 7))
    table = table_of(make_rows("calibrate", documents=20))
    evidence = Evidence.over(simulation, table)
    fit: Callable = calibrator_named(calibrator).fit
    curves, sizes = fit(evidence, maximum()), fit(evidence.at_firings(), maximum())
    scores = score_simulation(evidence, curves.apply)
    for latent in (2, 7):
        fired = table.value[table.pointer[latent] : table.pointer[latent + 1]]
        for level in (0.0, 4.5, 9.0):
            at = np.array([latent]), np.array([level], np.float32)
            np.testing.assert_allclose(curves.apply(*at), fired.sum() / table.rows.token_count, rtol=1e-6)
            np.testing.assert_allclose(sizes.apply(*at), fired.mean(), rtol=1e-6)
        assert all(getattr(scores, name).of(latent) is None for name in MEASURES)
