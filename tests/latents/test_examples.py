"""Examples are windows of the text, each as likely as any other, and quantiles of their maxima."""

import itertools
import sys

import numpy as np
import pytest
from scipy.stats import chisquare

from plainspoken.latents import FiringTable, examples
from plainspoken.types import Rows

# The package's name `examples` is the function; this is the module.
MODULE = sys.modules["plainspoken.latents.examples"]


@pytest.fixture(scope="module")
def planted() -> FiringTable:
    """One latent over 60 rows of 50 tokens with BOS and padding, which fires at random with random strength."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 300, (60, 50)).astype(np.int32)
    mask = np.zeros((60, 50), bool)
    for r in range(60):
        mask[r, 1 : int(generator.integers(3, 51))] = True
    rows = Rows(tokens, mask, np.arange(60, dtype=np.int32), tuple(map(str, range(60))), "explain")
    position = np.flatnonzero(mask.ravel() & (generator.random(3000) < 0.2))
    value = generator.exponential(size=len(position)).astype(np.float32)
    return FiringTable(np.array([0, 0, len(position), len(position)]), position, value, rows)


def test_examples_are_windows_of_one_row_with_their_own_values(planted: FiringTable) -> None:
    position, value = planted.latent(1)
    z = np.zeros(3000, np.float32)
    z[position] = value
    z = z.reshape(60, 50)
    found = examples(planted, 1, 4, 10, 8, np.random.default_rng(0))
    assert len(found) == 40
    for example in found:
        stop = example.start + len(example.tokens)
        assert 0 < len(example.tokens) <= 8
        assert planted.rows.mask[example.row, example.start : stop].all()
        assert np.array_equal(example.tokens, planted.rows.tokens[example.row, example.start : stop])
        assert np.array_equal(example.values, z[example.row, example.start : stop])
        assert example.values.max() > 0
    tokens = [(e.row, column) for e in found for column in range(e.start, e.start + len(e.tokens))]
    assert len(tokens) == len(set(tokens))


def test_a_quantile_is_a_range_of_maxima(planted: FiringTable) -> None:
    """With every window drawn, the groups are the sorted windows cut into ten, and no window is lost."""
    found = examples(planted, 1, 10**6, 10, 8, np.random.default_rng(0))
    position, _ = planted.latent(1)
    assert len(found) == len({(p // 50, p % 50 // 8) for p in position.tolist()})
    groups = [[float(e.values.max()) for e in found if e.quantile == q] for q in range(10)]
    assert sum(map(len, groups)) == len(found)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    for lower, upper in itertools.pairwise(groups):
        assert max(lower) <= min(upper)


def test_examples_follow_from_the_seed(planted: FiringTable) -> None:
    def drawn(seed: int) -> list[tuple[int, int]]:
        return [(e.row, e.start) for e in examples(planted, 1, 2, 5, 8, np.random.default_rng(seed))]

    assert drawn(0) == drawn(0) != drawn(1)


def test_a_silent_latent_has_no_examples(planted: FiringTable) -> None:
    assert examples(planted, 0, 2, 5, 8, np.random.default_rng(0)) == []


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits lowered, so that of the planted latent's windows, 180, a sample of 64 is drawn."""
    monkeypatch.setattr(MODULE, "FEW", 100)
    monkeypatch.setattr(MODULE, "SAMPLE", 64)
    monkeypatch.setattr(MODULE, "_DRAWN_AT_ONCE", 50)


def windows(table: FiringTable) -> np.ndarray:
    """The first position of every window of 8 in which the latent fires, found slowly."""
    return np.array(sorted({p // 50 * 50 + p % 50 // 8 * 8 for p in table.latent(1)[0].tolist()}))


def test_a_drawn_window_is_any_window_alike(planted: FiringTable, few: None) -> None:
    """Though some hold one firing and others four: a chi-square test over many samples, and no window twice in one."""
    position, _ = planted.latent(1)
    held = np.bincount(np.searchsorted(windows(planted), position, side="right") - 1)
    assert held.min() == 1
    assert held.max() >= 4
    times = np.zeros(len(windows(planted)), int)
    for seed in range(400):
        first = MODULE._draw_windows(position, 50, 8, np.random.default_rng(seed))
        assert len(set(first.tolist())) == len(first) <= 64
        found = np.searchsorted(windows(planted), position[first], side="right") - 1
        assert len(set(found.tolist())) == len(found)
        times[found] += 1
    # Within a sample windows are distinct, which makes the counts more alike than independent ones, never less.
    assert chisquare(times).pvalue > 0.01
    # The test can tell: windows drawn by their firings would fail it by far.
    assert chisquare(times, held * times.sum() / held.sum()).pvalue < 1e-9


def test_a_drawn_windows_maximum_is_its_own(planted: FiringTable) -> None:
    position, value = planted.latent(1)
    first = np.searchsorted(position, windows(planted))
    wanted = [
        value[(position >= start) & (position < min(start + 8, start // 50 * 50 + 50))].max()
        for start in windows(planted)
    ]
    assert MODULE._maxima(position, value, first, 50, 8).tolist() == wanted


def test_drawn_examples_are_examples(planted: FiringTable, few: None) -> None:
    """Of a sample too: windows of one row with their own values, none overlapping, equal for equal seeds."""

    def drawn(seed: int) -> list[tuple[int, int, int, list[float]]]:
        found = examples(planted, 1, 2, 5, 8, np.random.default_rng(seed))
        return [(e.row, e.start, e.quantile, e.values.tolist()) for e in found]

    position, value = planted.latent(1)
    z = np.zeros(3000, np.float32)
    z[position] = value
    for seed in range(20):
        found = drawn(seed)
        assert [quantile for _, _, quantile, _ in found] == [q for q in range(5) for _ in range(2)]
        assert len({(row, start // 8) for row, start, _, _ in found}) == 10
        assert all(z[row * 50 + start :][: len(values)].tolist() == values for row, start, _, values in found)
    assert drawn(0) == drawn(0) != drawn(1)


def test_drawn_groups_are_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frequent latent at the limits as they are: every example lies near its own tenth of all the windows."""
    generator = np.random.default_rng(0)
    rows = Rows(np.ones((2000, 64), np.int32), np.ones((2000, 64), bool), np.zeros(2000, np.int32), ("a",), "explain")
    position = np.flatnonzero(generator.random(2000 * 64) < 0.3)
    value = generator.exponential(size=len(position)).astype(np.float32)
    table = FiringTable(np.array([0, len(position)]), position, value, rows)
    assert len(position) > MODULE.FEW
    maxima = np.sort([e.values.max() for e in examples(table, 0, 10**6, 10, 16, generator)])
    for example in examples(table, 0, 20, 10, 16, generator):
        below = np.searchsorted(maxima, example.values.max()) / len(maxima)
        # Five standard errors of a border estimated from the sample.
        assert example.quantile / 10 - 0.08 < below < example.quantile / 10 + 0.18


def test_few_firings_are_looked_at_one_and_all(
    planted: FiringTable, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the limit, and wherever more is wanted than a sample holds, no window is left to chance."""
    assert len(examples(planted, 1, 10**6, 10, 8, np.random.default_rng(0))) == len(windows(planted))
    found = [(e.row, e.start) for e in examples(planted, 1, 4, 10, 8, np.random.default_rng(0))]
    monkeypatch.setattr(MODULE, "FEW", 10**6)
    assert found == [(e.row, e.start) for e in examples(planted, 1, 4, 10, 8, np.random.default_rng(0))]
