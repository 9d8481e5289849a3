"""Statistics and examples say of the table what they would say of the dense code."""

import itertools

import numpy as np
import pytest

from plainspoken.coders import Coder
from plainspoken.latents import FiringTable, examples, statistics
from plainspoken.types import Rows, Site


def test_statistics_equal_the_dense_oracle(
    tables: dict[Site, FiringTable], dense: dict[Site, np.ndarray], coders: dict[Site, Coder], rows: Rows
) -> None:
    for site, table in tables.items():
        found = statistics(table, coders[site].W_dec)
        z = dense[site][rows.mask.ravel()].astype(np.float64)
        norm = np.sqrt((coders[site].W_dec.double().numpy() ** 2).sum(1))
        for name, wanted in {
            "firings": (z > 0).sum(0),
            "rate": (z > 0).mean(0),
            "mean": z.mean(0),
            "second_moment": (z**2).mean(0),
            "maximum": z.max(0),
            "decoder_norm": norm,
            "mass": z.mean(0) * norm,
        }.items():
            np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-4, err_msg=name)
        assert found.tokens == len(z)
        assert found.dead == pytest.approx((z.max(0) == 0).mean())


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
