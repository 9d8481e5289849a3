"""Tokens drawn with known probabilities, undone: the sums are, in the mean over all draws, those over all tokens.

Rows of 2, 3 and 4 tokens of text, so few that every draw can be gone through.
"""

from itertools import combinations, product

import numpy as np
import pytest

from plainspoken.calibrators import CALIBRATORS, Evidence
from plainspoken.calibrators.conditional_mean import fit_conditional_mean
from plainspoken.latents.table import FiringTable
from plainspoken.pipeline.shelves import load_simulation, save_simulation
from plainspoken.rewrite.spans import chance, drawn
from plainspoken.types import Rows, Simulation

LENGTHS, T, LATENTS, LEVELS = (2, 3, 4), 5, 3, 4
FITS = {**{name: CALIBRATORS[name].fit for name in ("linear", "quantile")}}
FITS["conditional_mean"] = lambda evidence, maximum: fit_conditional_mean(evidence, maximum, prior=0.0)
SUMS = ("weight", "total", "square", "fired")


def case(seed: int) -> tuple[Rows, np.ndarray, np.ndarray]:
    """(rows, levels, truth), both [row, t, latent] and unrelated; both silent as often as not."""
    rng, mask = np.random.default_rng(seed), np.zeros((len(LENGTHS), T), bool)
    for row, length in enumerate(LENGTHS):
        mask[row, 1 : 1 + length] = True
    names = tuple(map(str, range(len(LENGTHS))))
    rows = Rows(np.zeros(mask.shape, np.int32), mask, np.arange(len(mask), dtype=np.int32), names, "calibrate")
    level, true = rng.integers(0, LEVELS, (2, *mask.shape, LATENTS)) * mask[None, :, :, None]
    return rows, level.astype(np.float32), (true * rng.random(true.shape)).astype(np.float32)


def simulation_of(rows: Rows, level: np.ndarray, gap: np.ndarray | None = None) -> Simulation:
    flat = level.reshape(-1, LATENTS)
    position, latent = np.nonzero(flat)
    whole = Simulation(position, latent, flat[position, latent], LATENTS, *rows.tokens.shape, rows.fingerprint)
    return whole if gap is None else whole.with_missing(*np.nonzero(gap.reshape(-1, LATENTS)))


def table_of(rows: Rows, true: np.ndarray) -> FiringTable:
    latent, position = np.nonzero(true.reshape(-1, LATENTS).T)
    pointer = np.concatenate([[0], np.cumsum(np.bincount(latent, minlength=LATENTS))])
    return FiringTable(pointer, position, true.reshape(-1, LATENTS)[position, latent], rows)


def sums(evidence: Evidence) -> np.ndarray:
    """[latent, level, sum]."""
    out = np.zeros((LATENTS, LEVELS, len(SUMS)))
    for place, name in enumerate(SUMS):
        out[evidence.latent, evidence.level.astype(int), place] = getattr(evidence, name)
    return out


def draws(rows: Rows, count: int) -> list[np.ndarray]:
    """Every way to draw so many tokens of each row, each as likely as any other."""
    each = []
    for mask in rows.mask:
        text = np.flatnonzero(mask)
        each.append([np.isin(np.arange(T), some) for some in combinations(text, min(count, len(text)))])
    return [np.stack(rows) for rows in product(*each)]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("gaps", [False, True])
def test_the_mean_of_the_sums_over_all_draws_is_the_sums_over_all_tokens(count: int, gaps: bool) -> None:
    rows, level, true = case(count)
    gap = (np.random.default_rng(9).random(level.shape) < 0.2) & rows.mask[:, :, None] if gaps else None
    whole = simulation_of(rows, level if gap is None else np.where(gap, 0, level), gap)
    table = table_of(rows, true)
    found = [
        sums(Evidence.over(whole.asked_only(asked, chance(rows.mask, count)), table)) for asked in draws(rows, count)
    ]
    full = sums(Evidence.over(whole, table))
    np.testing.assert_allclose(np.mean(found, axis=0), full, rtol=1e-6, atol=1e-9)
    assert np.std(found, axis=0).max() > 0.1  # it is no tautology: the draws differ


@pytest.mark.parametrize("count", [1, 2])
def test_rows_count_by_their_tokens(count: int) -> None:
    rows, level, true = case(0)
    asked = drawn(rows.mask, count, seed=0)
    few = simulation_of(rows, level).asked_only(asked, chance(rows.mask, count))
    evidence = Evidence.over(few, table_of(rows, true))
    np.testing.assert_allclose(evidence.tokens, sum(LENGTHS))
    weighed = asked / chance(rows.mask, count)[:, None]
    np.testing.assert_allclose(weighed.sum(axis=1), LENGTHS)


@pytest.mark.parametrize("count", [4, 9])
def test_as_many_as_the_longest_row_has_is_all(count: int) -> None:
    rows, level, true = case(1)
    asked, whole, table = drawn(rows.mask, count, seed=0), simulation_of(rows, level), table_of(rows, true)
    np.testing.assert_array_equal(asked, rows.mask)
    one, other = Evidence.over(whole.asked_only(asked, chance(rows.mask, count)), table), Evidence.over(whole, table)
    for name, value in vars(other).items():
        np.testing.assert_array_equal(getattr(one, name), value, err_msg=name)


@pytest.mark.parametrize("name", [*FITS])
@pytest.mark.parametrize("seed", range(5))
def test_the_truth_of_drawn_tokens_calibrated_onto_itself_stays(name: str, seed: int) -> None:
    rows, _, true = case(seed)
    asked = drawn(rows.mask, 2, seed)
    few = simulation_of(rows, true).asked_only(asked, chance(rows.mask, 2))
    curve = FITS[name](Evidence.over(few, table_of(rows, true)), true.max(axis=(0, 1)))
    for latent in range(LATENTS):
        seen = true[asked][:, latent]
        np.testing.assert_allclose(curve.apply(np.full(len(seen), latent), seen), seen, rtol=1e-5, atol=1e-6)


def test_the_chance_stays_with_a_simulation(tmp_path) -> None:
    rows, level, _ = case(2)
    odds = chance(rows.mask, 2)
    few = simulation_of(rows, level).asked_only(drawn(rows.mask, 2, 0), odds)
    save_simulation(tmp_path / "few.safetensors", few, np.zeros((LATENTS, 32), np.uint8), "rules")
    found, _, _ = load_simulation(tmp_path / "few.safetensors")
    other = simulation_of(rows, level[::-1]).asked_only(drawn(rows.mask, 2, 0), odds)
    for kept in (found, few.permuted(np.array([1, 2, 0])), few.with_latents_of(other, np.array([1]))):
        np.testing.assert_array_equal(kept.chance, odds)
    np.testing.assert_array_equal(few.between(1, 3).chance, odds[1:3])
