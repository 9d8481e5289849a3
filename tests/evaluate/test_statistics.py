"""Statistics against scipy, statsmodels' textbook formulas by hand, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plainspoken.evaluate.statistics import (
    holm,
    interval,
    paired_difference,
    recovered,
    resamples,
    samples,
    with_interval,
)


def test_resamples_draw_as_many_documents_as_there_are_and_obey_the_seed():
    counts = resamples(7, 50, 3)
    assert counts.shape == (50, 7) and (counts.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(counts, resamples(7, 50, 3))
    assert (counts != resamples(7, 50, 4)).any()


def test_the_bootstrap_of_a_constant_has_no_width():
    counts, tokens = resamples(9, 200, 0), np.arange(1.0, 10.0)
    assert interval((counts @ (2.5 * tokens)) / (counts @ tokens)) == pytest.approx((2.5, 2.5), abs=1e-12)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    counts = resamples(60, 400, 0)
    for _ in range(400):
        tokens = rng.integers(5, 50, 60).astype(float)
        losses = tokens * rng.normal(2.0, 0.5, 60)
        low, high = interval((counts @ losses) / (counts @ tokens))
        hits += low <= 2.0 <= high
    assert 0.90 <= hits / 400 <= 0.98


def test_an_interval_of_much_that_is_undefined_is_none():
    values = np.linspace(0, 1, 1000)
    values[:20] = np.nan
    assert interval(values) is not None
    values[:30] = np.nan
    assert interval(values) is None


@pytest.mark.parametrize("documents", [0, 1])
def test_fewer_than_two_documents_have_no_bounds(documents):
    """Every draw of one document is that document: of no width, and yet nothing is known of others."""
    counts = samples(documents, 200, 0)
    assert counts.shape == (1, documents)
    told = with_interval("fvu", counts @ np.full(documents, 1.25) if documents else np.array([1.25]))
    assert told == {"fvu": 1.25, "fvu_low": None, "fvu_high": None}
    assert with_interval("fvu", samples(2, 200, 0) @ np.array([1.0, 2.0]))["fvu_low"] == 2.0


def test_recovered_is_one_for_the_coder_nought_for_the_baseline_and_undefined_without_a_gap():
    found = recovered(np.array([3.0, 3.0, 3.0, 1.0]), np.array([2.0, 2.0, 2.0, 2.0]), np.array([2.0, 3.0, 3.5, 1.5]))
    np.testing.assert_array_equal(found[:3], [1.0, 0.0, -0.5])
    assert np.isnan(found[3])


def test_documents_of_one_length_give_the_paired_t_test():
    rng = np.random.default_rng(1)
    first, second = rng.normal(2.0, 0.3, 25), rng.normal(2.1, 0.3, 25)
    tokens = np.full(25, 40.0)
    found = paired_difference(first * 40, second * 40, tokens)
    oracle = stats.ttest_rel(first, second, alternative="less")
    assert found.difference == pytest.approx((first - second).mean())
    assert found.p_below() == pytest.approx(oracle.pvalue)
    assert found.p_above() == pytest.approx(stats.ttest_rel(first, second, alternative="greater").pvalue)


def test_equivalence_is_two_one_sided_tests():
    rng = np.random.default_rng(2)
    first, second = rng.normal(2.0, 0.1, 30), rng.normal(2.01, 0.1, 30)
    tokens, margin = np.full(30, 10.0), 0.08
    found = paired_difference(first * 10, second * 10, tokens)
    upper = stats.ttest_1samp(first - second, margin, alternative="less").pvalue
    lower = stats.ttest_1samp(first - second, -margin, alternative="greater").pvalue
    assert found.p_within(margin) == pytest.approx(max(upper, lower))
    assert found.p_within(1.0) < 1e-6 < 0.5 < found.p_within(1e-6)


def test_documents_of_many_lengths_count_by_their_tokens():
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 100, 40).astype(float)
    first, second = tokens * rng.normal(2, 0.2, 40), tokens * rng.normal(2.2, 0.2, 40)
    found = paired_difference(first, second, tokens)
    assert found.difference == pytest.approx(first.sum() / tokens.sum() - second.sum() / tokens.sum())
    counts = resamples(40, 20_000, 0)
    spread = (counts @ (first - second) / (counts @ tokens)).std()
    assert found.error == pytest.approx(spread, rel=0.1)


def test_no_difference_and_a_certain_one():
    tokens, losses = np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 4.0])
    same = paired_difference(losses, losses, tokens)
    assert (same.p_below(), same.p_above(), same.p_within(0.1)) == (1.0, 1.0, 0.0)
    assert paired_difference(losses[:1], losses[:1] + 1, tokens[:1]).p_below() is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    adjusted, level = holm(p_values), 0.05
    order, rejected = np.argsort(p_values, kind="stable"), set()
    for rank, i in enumerate(order):
        if p_values[i] * (len(p_values) - rank) > level:
            break
        rejected.add(int(i))
    assert {i for i, p in enumerate(adjusted) if p <= level} == rejected
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
