"""By what latents come first in the order "best": the simulation's scores, or a scorer's."""

import numpy as np
from jaxtyping import Float

from plainspoken.corpus.apart import require_apart
from plainspoken.pipeline.shelves import calibrate_rows, load_judged, load_scores, scoring_rows
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers import SIMULATION, JudgedScores, ranking
from plainspoken.scorers.simulation import Measure


def latents_ranked(workplace: Workplace, module: str) -> Float[np.ndarray, " latents"]:
    """What a site's latents are sorted by, largest first, those without a score last.

    Raises LeakError where the documents scored on are calibrated on.
    """
    require_apart(scoring_rows(workplace), calibrate_rows(workplace), "scoring and calibrating")
    score = workplace.config.score
    scorer, measure = ranking(score.rank_by, score.scorers)
    if scorer == SIMULATION:
        scores: object = load_scores(workplace, module)
    else:
        judged = load_judged(workplace.path("score", f"{module}/{scorer}") / "judged.safetensors")
        scores = JudgedScores.of(judged)
    found: Measure = getattr(scores, measure)
    return found.ranking()
