"""Overlaps of the largest by mean and by weight: shares, and intervals that hold the truth as often as they say."""

import numpy as np
import pytest

from plainspoken.circuits.means import MeanAttribution
from plainspoken.circuits.overlaps import FEWEST, control_overlap, mean_overlap, told_tops


def mean_of(sums: np.ndarray, firings: np.ndarray | None = None) -> MeanAttribution:
    """Contributions to a latent from as many documents as there are sums."""
    firings = np.full(len(sums), 3) if firings is None else firings
    return MeanAttribution(2, 0, 0, np.arange(len(sums)), sums, firings, 10_000)


def test_the_overlap_is_the_share_of_the_largest_in_common() -> None:
    pullback = np.array([5.0, -4, 3, 2, 1, 0, 0, 0])
    mean = mean_of(np.array([[-9.0, 8, 0, 0, 1, 7, 0, 0]]))
    found = [mean_overlap(mean, pullback, top).share for top in (1, 2, 3)]
    assert found == [1, 1, pytest.approx(2 / 3)], "whatever their signs"


def test_no_top_is_told_that_cannot_be_filled_or_that_holds_everything() -> None:
    sums = np.zeros((4, 60))
    sums[:, :30] = 1 + np.arange(30)
    assert told_tops(mean_of(sums)) == [10, 20], "30 contribute"
    assert told_tops(mean_of(sums[:, :20])) == [10], "of 20 latents the largest 20 are the same by any measure"
    assert told_tops(mean_of(sums[:, 30:])) == []
    full = mean_of(np.tile(1.0 + np.arange(60), (4, 1)))
    for top in told_tops(full):
        assert mean_overlap(full, 1.0 + np.arange(60), top).share == 1


def test_the_control_is_the_mean_of_the_overlaps_with_other_pullbacks() -> None:
    generator = np.random.default_rng(1)
    mean, others = mean_of(generator.normal(size=(FEWEST, 30))), generator.normal(size=(4, 30))
    each = [mean_overlap(mean, other, 5).share for other in others]
    control = control_overlap(mean, others, 5)
    assert control.share == pytest.approx(np.mean(each))
    assert control.low is not None and control.high is not None and control.low <= control.share <= control.high
    alone = control_overlap(mean, others[:1], 5)
    assert alone.share == each[0] and alone.low is None is alone.high, "how others vary is not known"


@pytest.mark.parametrize("documents", [1, 2, FEWEST - 1, FEWEST])
def test_bounds_are_withheld_of_few_documents(documents: int) -> None:
    generator = np.random.default_rng(2)
    mean = mean_of(generator.normal(size=(documents, 40)))
    told = mean_overlap(mean, generator.normal(size=40), 10), control_overlap(mean, generator.normal(size=(5, 40)), 10)
    assert all((each.low is None and each.high is None) == (documents < FEWEST) for each in told)


def test_documents_that_are_alike_leave_a_place_open_and_which_others_were_drawn() -> None:
    generator = np.random.default_rng(0)
    alike = mean_of(np.tile(generator.normal(size=40), (FEWEST, 1)))
    own = mean_overlap(alike, generator.normal(size=40), 10)
    assert own.low is not None and own.high is not None and 0.1 < own.share < 0.9
    assert (own.low, own.high) == pytest.approx((own.share - 0.1, own.share + 0.1)), "one place of ten to each side"
    others = generator.normal(size=(20, 40))
    control = control_overlap(alike, others, 10)
    shares = [mean_overlap(alike, other, 10).share for other in others]
    assert control.low is not None and control.high is not None
    half = 2.0930  # Student's, of 19 degrees of freedom: 20 others
    assert control.high - control.share == pytest.approx(half * np.std(shares, ddof=1) / np.sqrt(20), rel=1e-3)


def texts(generator: np.random.Generator, truth: np.ndarray, documents: int, noise: float) -> MeanAttribution:
    """Documents with a few firings each, whose contributions are the truth and heavy-tailed noise."""
    firings = generator.geometric(0.25, documents)
    spread = np.sqrt(firings)[:, None] * noise * np.abs(truth).mean()
    return mean_of(firings[:, None] * truth + spread * generator.standard_t(4, (documents, len(truth))), firings)


@pytest.mark.parametrize(("documents", "noise", "top"), [(30, 2, 50), (30, 6, 50), (30, 2, 10), (FEWEST, 0.5, 10)])
def test_intervals_hold_the_overlap_of_the_true_means(documents: int, noise: float, top: int) -> None:
    """Percentiles of a bootstrap by document held it in 34 of 100 at 30 documents of much noise, top 50."""
    generator, held = np.random.default_rng([documents, top]), 0
    for _ in range(100):
        truth = generator.standard_t(2, 300)
        pullback = 0.7 * truth + 0.7 * generator.standard_t(2, 300)
        told = mean_overlap(texts(generator, truth, documents, noise), pullback, top)
        wanted = mean_overlap(mean_of(truth[None]), pullback, top).share
        assert told.low is not None and told.high is not None and told.low <= told.share <= told.high
        held += told.low - 1e-9 <= wanted <= told.high + 1e-9
    assert held >= 88


@pytest.mark.parametrize(("documents", "noise", "top"), [(30, 20, 20), (30, 6, 50)])
def test_what_noise_makes_too_low_is_hardly_ever_too_high(documents: int, noise: float, top: int) -> None:
    """Under noise of many times the mean the truth may lie above an interval: its lower end is a bound all the same."""
    generator, own, control = np.random.default_rng(3), 0, 0
    for _ in range(60):
        truth = generator.standard_t(2, 300)
        share = generator.uniform(0, 0.9, (150, 1))
        everyone = share * truth + (1 - share) * generator.standard_t(2, (150, 300))
        mean, exact = texts(generator, truth, documents, noise), mean_of(truth[None])
        told, others = mean_overlap(mean, everyone[0], top), control_overlap(mean, everyone[:20], top)
        assert told.low is not None and others.low is not None
        own += told.low - 1e-9 <= mean_overlap(exact, everyone[0], top).share
        control += others.low - 1e-9 <= control_overlap(exact, everyone, top).share
    assert own >= 57 and control >= 57


def test_intervals_of_the_control_hold_the_mean_over_all_others() -> None:
    generator, held = np.random.default_rng(7), 0
    for _ in range(60):
        truth = generator.standard_t(2, 200)
        share = generator.uniform(0, 0.9, (150, 1))  # of others some are much like it
        everyone = share * truth + (1 - share) * generator.standard_t(2, (150, 200))
        told = control_overlap(texts(generator, truth, FEWEST, 2), everyone[:20], 20)
        wanted = control_overlap(mean_of(truth[None]), everyone, 20).share
        assert told.low is not None and told.high is not None
        held += told.low <= wanted <= told.high
    assert held >= 53
