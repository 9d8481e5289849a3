"""No calibration: level 9 is the latent's maximum, level 0 is 0, a straight line between (the paper's raw values)."""

import numpy as np
from jaxtyping import Float

from plainspoken.calibrators.calibration import LEVEL_MAX, Calibration
from plainspoken.latents.evidence import Evidence


def fit_none(evidence: Evidence, maximum: Float[np.ndarray, " latents"]) -> Calibration:
    """activation = level / 9 * maximum. Looks at nothing but the maximum."""
    x = np.tile(np.array([0.0, LEVEL_MAX], np.float32), (evidence.latents, 1))
    y = np.stack([np.zeros(evidence.latents), maximum], axis=1).astype(np.float32)
    return Calibration("none", x, y)
