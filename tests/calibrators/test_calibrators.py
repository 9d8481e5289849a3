"""Calibration: what each calibrator promises, against slow oracles on dense arrays."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from plainspoken.calibrators import CALIBRATORS, Calibration, Evidence
from plainspoken.calibrators.conditional_mean import BINS, fit_conditional_mean, isotonic
from plainspoken.errors import LeakError, RunError, StoreError
from plainspoken.latents.table import FiringTable
from plainspoken.types import Rows, Simulation

FITTERS = ["none", "linear", "quantile", "conditional_mean"]


def rows_of(tokens: int, part: str = "calibrate") -> Rows:
    """Rows of 8 places, the first of each no text, that hold at least so many tokens of text."""
    row = -(-tokens // 7)
    mask = np.ones((row, 8), bool)
    mask[:, 0] = False
    mask.ravel()[np.flatnonzero(mask.ravel())[tokens:]] = False
    return Rows(np.zeros((row, 8), np.int32), mask, np.arange(row, dtype=np.int32), tuple(map(str, range(row))), part)


def pair_up(level: np.ndarray, true: np.ndarray, part: str = "calibrate") -> tuple[Simulation, FiringTable]:
    """Dense [tokens, latents] levels and activations as the sparse things that a run has."""
    rows = rows_of(len(level), part)
    places = np.flatnonzero(rows.mask.ravel())
    at, latent = np.nonzero(level)
    simulation = Simulation(
        places[at], latent, level[at, latent].astype(np.float32), level.shape[1], *rows.tokens.shape, rows.fingerprint
    )
    latent, at = np.nonzero(true.T)
    pointer = np.concatenate([[0], np.cumsum(np.bincount(latent, minlength=true.shape[1]))])
    return simulation, FiringTable(pointer, places[at], true[at, latent].astype(np.float32), rows)


def applied(calibration: Calibration, level: np.ndarray) -> np.ndarray:
    """The calibration at every entry of a dense array of levels."""
    at, latent = np.indices(level.shape).reshape(2, -1)
    return calibration.apply(latent, level[at, latent].astype(np.float32)).reshape(level.shape)


def fit(name: str, level: np.ndarray, true: np.ndarray) -> Calibration:
    return CALIBRATORS[name](*pair_up(level, true), true.max(axis=0).astype(np.float32))


@st.composite
def levels_and_truth(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Sparse levels, whole or fractional, few or many distinct ones, beside sparse truth that may be unrelated."""
    seed = draw(st.integers(0, 2**32 - 1))
    tokens, latents = draw(st.integers(1, 200)), draw(st.integers(1, 4))
    rng = np.random.default_rng(seed)
    true = rng.gamma(1.0, 2.0, (tokens, latents)) * (rng.random((tokens, latents)) < draw(st.floats(0, 1)))
    related = draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0]))
    level = np.clip(related * true + rng.normal(0, draw(st.floats(0, 4)), true.shape), 0, 9)
    level *= rng.random(level.shape) < draw(st.floats(0, 1))
    return (np.rint(level) if draw(st.booleans()) else level).astype(np.float32), true.astype(np.float32)


@given(levels_and_truth())
@settings(max_examples=150)
def test_conditional_mean_never_loses_to_the_mean_on_its_own_data(case):
    level, true = case
    curve = fit("conditional_mean", level, true)
    lost = ((applied(curve, level).astype(np.float64) - true) ** 2).sum(axis=0)
    by_mean = ((true.mean(axis=0, dtype=np.float64) - true) ** 2).sum(axis=0)
    assert (lost <= by_mean * (1 + 1e-5) + 1e-6).all()


@given(levels_and_truth(), st.sampled_from(FITTERS))
@settings(max_examples=100)
def test_every_curve_is_monotone_finite_and_starts_at_level_zero(case, name):
    level, true = case
    curve = fit(name, level, true)
    assert np.isfinite(curve.x).all() and np.isfinite(curve.y).all()
    assert (np.diff(curve.x, axis=1) >= 0).all() and (curve.x[:, 0] == 0).all()
    assert (np.diff(curve.y, axis=1) >= 0).all() and (curve.y >= 0).all()
    assert (curve.y <= true.max(axis=0)[:, None] * (1 + 1e-4) + 1e-5).all()  # no wild extrapolation
    np.testing.assert_array_equal(curve.floor, applied(curve, np.zeros((1, true.shape[1])))[0])


@given(levels_and_truth(), st.sampled_from(["linear", "quantile"]))
@settings(max_examples=100)
def test_the_truth_calibrated_onto_itself_stays(case, name):
    _, true = case
    np.testing.assert_allclose(applied(fit(name, true, true), true), true, rtol=1e-4, atol=1e-5)


@given(levels_and_truth())
@settings(max_examples=100)
def test_the_truth_keeps_its_value_under_conditional_mean_without_prior(case):
    _, true = case
    evidence = Evidence.over(*pair_up(true, true))
    curve = fit_conditional_mean(evidence, true.max(axis=0), prior=0.0)
    np.testing.assert_allclose(applied(curve, true), true, rtol=1e-4, atol=1e-5)


def test_the_prior_moves_the_truth_towards_the_mean_by_its_stated_weight():
    true = np.array([[0.0]] * 6 + [[3.0]] * 4, np.float32)
    curve = fit_conditional_mean(Evidence.over(*pair_up(true, true)), np.array([3.0]), prior=2.0)
    np.testing.assert_allclose(curve.y[0], [(6 * 0 + 2 * 1.2) / 8, (4 * 3 + 2 * 1.2) / 6], rtol=1e-6)


def test_conditional_mean_is_weighted_isotonic_regression():
    rng = np.random.default_rng(0)
    level = rng.integers(0, 10, (300, 5)).astype(np.float32) * (rng.random((300, 5)) < 0.4)
    true = np.maximum(0, level + rng.normal(0, 4, level.shape)).astype(np.float32)
    curve = fit_conditional_mean(Evidence.over(*pair_up(level, true)), true.max(axis=0), prior=0.0)
    for latent in range(5):
        oracle = IsotonicRegression().fit_transform(level[:, latent], true[:, latent].astype(np.float64))
        np.testing.assert_allclose(applied(curve, level)[:, latent], oracle, rtol=1e-5, atol=1e-6)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 9)), min_size=1, max_size=12))
def test_isotonic_equals_the_pool_adjacent_violators_oracle(points):
    y, weight = np.array(points).T
    oracle = IsotonicRegression().fit_transform(np.arange(len(y)), y, sample_weight=weight)
    found = isotonic((y * weight)[None], weight[None])[0]
    np.testing.assert_allclose(found, oracle, rtol=1e-9, atol=1e-9)
    padded = isotonic(np.pad(y * weight, (0, 2))[None], np.pad(weight, (0, 2))[None])[0]
    np.testing.assert_allclose(padded, np.pad(oracle, (0, 2), mode="edge"), rtol=1e-9, atol=1e-9)


def test_quantile_gives_the_simulation_the_distribution_of_the_truth():
    rng = np.random.default_rng(1)
    level = rng.permuted(np.arange(100.0)[:, None] / 12, axis=0).astype(np.float32)
    true = (rng.gamma(1, 1, (100, 1)) * (rng.random((100, 1)) < 0.3)).astype(np.float32)
    found = np.sort(applied(fit("quantile", level, true), level), axis=0)
    np.testing.assert_allclose(found, np.sort(true, axis=0), atol=1e-6)


def test_quantile_keeps_a_rare_latent_rare():
    rng = np.random.default_rng(2)
    level = np.zeros((1000, 1), np.float32)
    level[rng.choice(1000, 50, replace=False)] = rng.permutation(50)[:, None] / 10 + 0.1  # fires too often
    true = np.zeros((1000, 1), np.float32)
    true[rng.choice(1000, 5, replace=False), 0] = [1, 2, 3, 4, 5]
    found = applied(fit("quantile", level, true), level)
    assert (found > 0).sum() == 5 and found.sum() == pytest.approx(15)


def test_none_is_the_straight_line_to_the_maximum_and_nine_is_not_nought():
    rng = np.random.default_rng(3)
    true = rng.random((40, 3)).astype(np.float32)
    curve = fit("none", np.zeros_like(true), true)
    everywhere = np.tile(np.arange(10.0)[:, None], (1, 3))
    np.testing.assert_allclose(applied(curve, everywhere), everywhere / 9 * true.max(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(applied(curve, np.full((1, 3), 9.0))[0], true.max(axis=0))
    np.testing.assert_array_equal(applied(curve, np.full((1, 3), 0.0))[0], 0)


@pytest.mark.parametrize("name", FITTERS)
def test_an_expected_level_of_exactly_nine_is_the_strongest(name):
    level = np.array([[0.0]] * 50 + [[4.5]] * 10 + [[9.0]] * 10, np.float32)
    true = np.array([[0.0]] * 50 + [[1.0]] * 10 + [[2.0]] * 10, np.float32)
    found = applied(fit(name, level, true), np.array([[9.0], [8.999], [0.0]]))
    assert found[0, 0] >= found[1, 0] > found[2, 0]
    assert found[0, 0] > 1.5


def test_linear_is_least_squares():
    rng = np.random.default_rng(4)
    level = rng.integers(0, 10, (200, 1)).astype(np.float32)
    true = (0.3 + 0.5 * level + rng.random((200, 1))).astype(np.float32)
    slope, offset = np.polyfit(level[:, 0], true[:, 0], 1)
    np.testing.assert_allclose(applied(fit("linear", level, true), level), offset + slope * level, rtol=1e-4)


def test_linear_never_goes_below_zero_nor_down():
    level = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    hinge = np.array([[0.0], [0.0], [0.0], [3.0]], np.float32)
    assert applied(fit("linear", level, hinge), level).min() == 0
    falling = applied(fit("linear", level, hinge[::-1].copy()), level)
    np.testing.assert_allclose(falling, 0.75)


@given(levels_and_truth(), st.sampled_from(FITTERS))
@settings(max_examples=50)
def test_a_whole_sample_with_probability_one_is_the_full_data(case, name):
    level, true = case
    at, latent = np.indices(level.shape).reshape(2, -1)
    drawn = Evidence.sampled(level.shape[1], latent, level[at, latent], true[at, latent], np.ones(level.size))
    maximum = true.max(axis=0)
    whole = CALIBRATORS[name].fit(Evidence.over(*pair_up(level, true)), maximum)
    sampled = CALIBRATORS[name].fit(drawn, maximum)
    np.testing.assert_array_equal(whole.x, sampled.x)
    np.testing.assert_allclose(whole.y, sampled.y, rtol=1e-6, atol=1e-7)


def test_sampling_with_known_weights_undone_is_the_full_data_in_expectation():
    rng = np.random.default_rng(5)
    true = (rng.gamma(1, 2, 400) * (rng.random(400) < 0.05)).astype(np.float32)
    level = np.rint(np.clip(true + rng.normal(0, 1, 400), 0, 9)).astype(np.float32)
    probability = np.where(true > 0, 0.8, np.where(level > 0, 0.3, 0.1))  # rare firings are not starved
    draws = []
    for _ in range(2000):
        kept = rng.random(400) < probability
        latent = np.zeros(kept.sum(), np.int64)
        drawn = Evidence.sampled(1, latent, level[kept], true[kept], probability[kept])
        table = np.zeros((3, 10))
        table[:, drawn.level.astype(int)] = [drawn.weight, drawn.total, drawn.fired]
        draws.append(table)
    full = np.array([[f[level == v].sum() for v in range(10)] for f in (np.ones(400), true, true > 0)])
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert (np.abs(np.mean(draws, axis=0) - full) <= 4.5 * error + 1e-9).all()


def test_many_fractional_levels_are_gathered_and_still_predict():
    rng = np.random.default_rng(6)
    true = (rng.gamma(2, 1, (5000, 2)) * (rng.random((5000, 2)) < 0.5)).astype(np.float32)
    level = np.clip(true + rng.normal(0, 0.3, true.shape), 0, 9).astype(np.float32)
    curve = fit("conditional_mean", level, true)
    assert curve.x.shape[1] <= BINS
    share = ((applied(curve, level) - true) ** 2).sum(axis=0) / ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    assert (share < 0.1).all()


@given(levels_and_truth(), st.sampled_from(FITTERS))
@settings(max_examples=50)
def test_evidence_at_firings_is_evidence_of_the_firings_alone(case, name):
    level, true = case
    at, latent = np.nonzero(true)
    alone = Evidence.sampled(level.shape[1], latent, level[at, latent], true[at, latent], np.ones(len(at)))
    found = Evidence.over(*pair_up(level, true)).at_firings()
    maximum = true.max(axis=0)
    np.testing.assert_allclose(found.weight, alone.weight)
    expected, curve = CALIBRATORS[name].fit(alone, maximum), CALIBRATORS[name].fit(found, maximum)
    np.testing.assert_allclose(applied(curve, level), applied(expected, level), rtol=1e-5, atol=1e-6)
    assert (np.diff(curve.y, axis=1) >= 0).all()


def test_only_tokens_of_the_text_count():
    level, true = np.array([[2.0], [0.0], [2.0]]), np.array([[1.0], [0.0], [3.0]])
    simulation, table = pair_up(level, true)
    outside = Simulation(
        np.concatenate([[0], simulation.position]), np.concatenate([[0], simulation.latent]),
        np.concatenate([np.float32([9.0]), simulation.level]), 1, simulation.rows, simulation.t,
        simulation.rows_fingerprint,
    )  # fmt: skip
    evidence = Evidence.over(outside, table)
    np.testing.assert_array_equal(evidence.level, [0.0, 2.0])
    np.testing.assert_array_equal(evidence.weight, [1.0, 2.0])
    np.testing.assert_array_equal(evidence.total, [0.0, 4.0])


def test_what_does_not_belong_together_is_refused():
    level = np.array([[2.0], [0.0]])
    simulation, _ = pair_up(level, level)
    with pytest.raises(LeakError, match="evaluate"):
        CALIBRATORS["none"](*pair_up(level, level, "evaluate"), np.ones(1))
    with pytest.raises(RunError, match="other rows"):
        Evidence.over(simulation, pair_up(np.ones((9, 1)), np.ones((9, 1)))[1])
    with pytest.raises(RunError, match="1 latents, the firing table 2"):
        Evidence.over(simulation, pair_up(np.ones((2, 2)), np.ones((2, 2)))[1])
    with pytest.raises(StoreError, match="negative or not a number"):
        Evidence.over(*pair_up(np.array([[np.nan], [1.0]]), level))
    with pytest.raises(StoreError, match="probability"):
        Evidence.sampled(1, np.zeros(1, np.int64), np.ones(1), np.ones(1), np.zeros(1))


def test_curves_of_some_latents_can_be_taken_from_another(tmp_path: Path):
    rng = np.random.default_rng(7)
    true = rng.random((60, 3)).astype(np.float32)
    fine, coarse = fit("quantile", true, true), fit("none", true, true)
    mixed = fine.with_latents_of(coarse, np.array([1]))
    probe = rng.random((20, 3)).astype(np.float32)
    expected = applied(fine, probe)
    expected[:, 1] = applied(coarse, probe)[:, 1]
    np.testing.assert_array_equal(applied(mixed, probe), expected)


def test_a_calibration_is_read_back_as_it_was_and_a_broken_file_is_named(tmp_path: Path):
    curve = fit("linear", np.eye(4), np.eye(4))
    curve.save(tmp_path / "c.safetensors")
    again = Calibration.load(tmp_path / "c.safetensors")
    assert again.name == "linear"
    np.testing.assert_array_equal(again.x, curve.x)
    np.testing.assert_array_equal(again.y, curve.y)
    whole = (tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "c.safetensors").write_bytes(whole[:-7])
    with pytest.raises(StoreError, match=r"c\.safetensors"):
        Calibration.load(tmp_path / "c.safetensors")
