"""Calibrate: levels to activations on calibrate rows, and on others the scores by which latents are ranked."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from plainspoken.calibrators import Evidence, calibrator_named
from plainspoken.corpus.apart import require_apart
from plainspoken.pipeline.shelves import (
    calibrate_rows,
    latents_of,
    load_simulation,
    load_statistics,
    load_table,
    save_scores,
    scoring_rows,
)
from plainspoken.pipeline.simulation_scored import SCORES, simulation_scored
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import write_json


def check(workplace: Workplace) -> None:
    """ConfigError where there is no such calibrator."""
    calibrator_named(workplace.config.calibrate.calibrator)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes calibration.safetensors, scores.safetensors (each latent's) and scores.json (their means) at each site."""
    calibrator = calibrator_named(workplace.config.calibrate.calibrator)
    rows, others = calibrate_rows(workplace), scoring_rows(workplace)
    require_apart(others, rows, "scoring and calibrating")
    with workplace.progress.track("calibrating", len(units)) as advance:
        for unit in units:
            assert unit.site is not None
            folder = workplace.path("calibrate", unit.site)
            table = load_table(workplace, unit.site, rows)
            simulation = load_simulation(workplace.path("simulate", unit.site) / "calibrate.safetensors")[0]
            evidence = Evidence.over(simulation, table)
            calibration = calibrator.fit(evidence, maximum(workplace, unit.site))
            calibration.save(folder / "calibration.safetensors")
            scores, record = simulation_scored(workplace, unit.site, others, calibration)
            save_scores(folder / "scores.safetensors", scores)
            write_json(folder / SCORES, record)
            yield Outcome(unit, {"calibrate_tokens": rows.token_count, "scored_tokens": others.token_count})
            advance(1)


def maximum(workplace: Workplace, site: str) -> Float[np.ndarray, " latents"]:
    """The largest activation of each latent on explain documents and those that are calibrated on."""
    table, largest = load_table(workplace, site, calibrate_rows(workplace)), np.zeros(latents_of(workplace, site))
    np.maximum.at(largest, np.repeat(np.arange(table.latents), np.diff(table.pointer)), table.value)
    return np.maximum(load_statistics(workplace, site, "explain")[0].maximum, largest)
