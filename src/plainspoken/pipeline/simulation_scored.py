"""A site's simulation as a scorer, on documents not calibrated on: each latent's scores, and their means."""

from typing import Any

import numpy as np

from plainspoken.calibrators import Calibration, Evidence
from plainspoken.evaluate.statistics import samples, with_intervals
from plainspoken.latents.paired import Paired
from plainspoken.pipeline.shelves import load_simulation, load_table
from plainspoken.pipeline.workplace import Workplace
from plainspoken.rewrite.prediction import shuffle
from plainspoken.scorers import MEASURES, SIMULATION
from plainspoken.scorers.by_document import simulation_means
from plainspoken.scorers.simulation import SimulationScores, score_simulation
from plainspoken.types import Rows

SCORES = "scores.json"


def simulation_scored(
    workplace: Workplace, site: str, rows: Rows, calibration: Calibration
) -> tuple[SimulationScores, dict[str, Any]]:
    """(every latent's scores, what scores.json says of them): means over the latents that have a sentence and fire.

    The control takes each latent's levels from another's sentence, as the condition `shuffled` does, and leaves it its
    own calibration. It costs no question. What was asked and answered are (latent, token) pairs: of a
    gate's, those that passed.
    """
    config, table = workplace.config, load_table(workplace, site, rows)
    simulation, texts, _ = load_simulation(workplace.path("simulate", site) / "scoring.safetensors")
    paired, explained = Paired.of(simulation, table), np.asarray(texts.any(axis=1))
    spoken = np.flatnonzero(explained & (np.bincount(paired.true_latent, minlength=len(explained)) > 0))
    permutation = shuffle(explained, config.seed)
    control = None if permutation is None else Paired.of(simulation.permuted(permutation), table)
    weights = samples(len(rows.keys), config.evaluate.bootstrap, config.seed)
    means = simulation_means(paired, control, rows, spoken, calibration.apply, weights)
    asked, missing = (int(pairs[spoken].sum()) for pairs in simulation.pairs_by_latent(rows.mask))
    record = {"site": site, "scorer": SIMULATION, "documents": len(rows.keys), **with_intervals(means.own)}
    record |= {"latents": len(spoken), "examples_asked": asked, "examples_answered": asked - missing}
    scores = score_simulation(Evidence.over(simulation, table), calibration.apply)
    record["defined"] = {name: int(getattr(scores, name).defined[spoken].sum()) for name in MEASURES}
    for name, values in (("control", means.control), ("above_control", means.above)):
        record[name] = None if values is None else with_intervals(values)
    return scores, record
