"""A simulation as a scorer: its means over drawn documents against scores of the documents written out as drawn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from plainspoken.calibrators import CALIBRATORS, Evidence
from plainspoken.latents.paired import Paired
from plainspoken.latents.table import FiringTable
from plainspoken.rewrite.spans import chance, drawn
from plainspoken.scorers import by_document
from plainspoken.scorers.by_document import simulation_means
from plainspoken.scorers.judged import MEASURES
from plainspoken.scorers.simulation import score_simulation
from plainspoken.types import Rows, Simulation

LATENTS, T, DOCUMENTS = 40, 12, 9  # more latents than are multiplied out at once


def rows_of(document: np.ndarray, seed: int = 0) -> Rows:
    mask = np.random.default_rng(seed).random((len(document), T)) < 0.9
    mask[:, 0] = False
    names = tuple(f"d{i}" for i in range(int(document.max()) + 1))
    return Rows(np.zeros(mask.shape, np.int32), mask, document.astype(np.int32), names, "calibrate")


def case(seed: int, fractional: bool) -> tuple[Rows, np.ndarray, np.ndarray]:
    """(rows, levels, truth), both [row, t, latent], related; the last latent never fires."""
    rows = rows_of(np.sort(np.random.default_rng(seed).integers(0, DOCUMENTS, 30)), seed)
    rng = np.random.default_rng(seed)
    true = rng.gamma(1, 2, (*rows.mask.shape, LATENTS)) * (rng.random((*rows.mask.shape, LATENTS)) < 0.2)
    level = np.clip(true + rng.normal(-0.5, 1.5, true.shape), 0, 9)
    true[..., -1] = 0
    text = rows.mask[:, :, None]
    return rows, ((level if fractional else np.rint(level)) * text).astype(np.float32), (true * text).astype(np.float32)


def pair_up(rows: Rows, level: np.ndarray, true: np.ndarray) -> tuple[Simulation, FiringTable]:
    flat = level.reshape(-1, LATENTS)
    position, latent = np.nonzero(flat)
    said = Simulation(position, latent, flat[position, latent], LATENTS, *rows.tokens.shape, rows.fingerprint)
    latent, position = np.nonzero(true.reshape(-1, LATENTS).T)
    pointer = np.concatenate([[0], np.cumsum(np.bincount(latent, minlength=LATENTS))])
    return said, FiringTable(pointer, position, true.reshape(-1, LATENTS)[position, latent], rows)


def curve_of(simulation: Simulation, table: FiringTable):
    return CALIBRATORS["linear"].fit(Evidence.over(simulation, table), np.full(LATENTS, 9.0, np.float32)).apply


def repeated(rows: Rows, level: np.ndarray, true: np.ndarray, times: np.ndarray) -> tuple[Simulation, FiringTable]:
    """The same with each document so many times."""
    again = np.repeat(np.arange(len(rows.tokens)), times[rows.document].astype(int))
    more = Rows(rows.tokens[again], rows.mask[again], rows.document[again], rows.keys, rows.part)
    return pair_up(more, level[again], true[again])


def oracle(simulation: Simulation, table: FiringTable, apply, latents: np.ndarray) -> dict[str, np.ndarray]:
    """Each latent's measures by `score_simulation`; NaN where it never fires or is never silent."""
    evidence = Evidence.over(simulation, table)
    scores = score_simulation(evidence, apply)
    fired = evidence.per_latent(evidence.fired)
    some = (fired > 0) & (fired < evidence.tokens)
    out = {}
    for name in MEASURES:
        measure = getattr(scores, name)
        out[name] = np.where(some & measure.defined, measure.values, np.nan)[latents]
    return out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fractional", [False, True])
def test_a_draw_weighs_as_its_documents_written_out(seed: int, fractional: bool, monkeypatch) -> None:
    monkeypatch.setattr(by_document, "GROUPS", 10_000)  # every level stands for itself
    rows, level, true = case(seed, fractional)
    other = np.roll(level, 1, axis=2)
    simulation, table = pair_up(rows, level, true)
    swapped = simulation.permuted(np.roll(np.arange(LATENTS), 1))
    apply, latents = curve_of(simulation, table), np.delete(np.arange(LATENTS), 3)
    weights = np.random.default_rng(seed).multinomial(DOCUMENTS, np.full(DOCUMENTS, 1 / DOCUMENTS), 4).astype(float)
    weights = np.concatenate([np.ones((1, DOCUMENTS)), weights])[:, : len(rows.keys)]
    found = simulation_means(Paired.of(simulation, table), Paired.of(swapped, table), rows, latents, apply, weights)
    for draw, times in enumerate(weights):
        own = oracle(*repeated(rows, level, true, times), apply, latents)
        theirs = oracle(*repeated(rows, other, true, times), apply, latents)
        for name in MEASURES:
            assert found.own[name][draw] == pytest.approx(np.nanmean(own[name]), abs=1e-6)
            assert found.control is not None and found.above is not None
            assert found.control[name][draw] == pytest.approx(np.nanmean(theirs[name]), abs=1e-6)
            assert found.above[name][draw] == pytest.approx(np.nanmean(own[name] - theirs[name]), abs=1e-6)
            assert found.above[name][draw] > 0.05


def test_levels_in_groups_cost_the_auprc_little() -> None:
    """Rare firings among many levels, all of them different: groups of equal firings keep the top apart."""
    rng, many = np.random.default_rng(0), 20_000
    mask = np.ones((many // 20, 20), bool)
    keys = tuple(map(str, range(len(mask))))
    rows = Rows(np.zeros(mask.shape, np.int32), mask, np.arange(len(mask), dtype=np.int32), keys, "calibrate")
    fires = rng.random(many) < 0.01
    level = np.where(fires, rng.gamma(3, 1, many), rng.gamma(1, 0.4, many)).clip(0, 9).astype(np.float32)
    place = np.arange(many)
    simulation = Simulation(place, 0 * place, level, 1, *mask.shape, rows.fingerprint)
    table = FiringTable(np.array([0, fires.sum()]), place[fires], np.ones(fires.sum(), np.float32), rows)
    found = simulation_means(
        Paired.of(simulation, table), None, rows, np.array([0]), lambda latent, level: level, np.ones((1, len(keys)))
    )
    assert found.control is None and found.above is None
    assert found.own["auprc"][0] == pytest.approx(average_precision_score(fires, level), abs=0.01)


def test_drawn_tokens_and_pairs_without_an_answer_weigh_as_in_evidence() -> None:
    rows, level, true = case(5, fractional=False)
    gap = (np.random.default_rng(1).random(level.shape) < 0.2) & rows.mask[:, :, None]
    simulation, table = pair_up(rows, np.where(gap, 0, level), true)
    simulation = simulation.with_missing(*np.nonzero(gap.reshape(-1, LATENTS)))
    few = simulation.asked_only(drawn(rows.mask, 6, 0), chance(rows.mask, 6))
    apply, latents = curve_of(few, table), np.arange(LATENTS)
    found = simulation_means(Paired.of(few, table), None, rows, latents, apply, np.ones((1, len(rows.keys))))
    for name, values in oracle(few, table, apply, latents).items():
        assert found.own[name][0] == pytest.approx(np.nanmean(values), abs=1e-6)


def test_a_latent_without_firings_or_a_varying_level_is_left_out() -> None:
    rows, level, true = case(0, fractional=False)
    level[..., 0] = 0
    simulation, table = pair_up(rows, level, true)
    ones = np.ones((1, len(rows.keys)))
    apply = curve_of(simulation, table)
    none = simulation_means(Paired.of(simulation, table), None, rows, np.array([LATENTS - 1]), apply, ones)
    assert all(np.isnan(none.own[name]).all() for name in MEASURES)
    silent = simulation_means(Paired.of(simulation, table), None, rows, np.array([0]), apply, ones)
    assert np.isnan(silent.own["correlation"][0]) and silent.own["f1"][0] == 0
    assert silent.own["balanced_accuracy"][0] == 0.5
    assert silent.own["auprc"][0] == pytest.approx((true[..., 0] > 0).sum() / rows.mask.sum())
