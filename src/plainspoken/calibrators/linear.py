"""Least squares: one straight line a latent, never falling, kept between zero and the largest activation seen."""

import numpy as np
from jaxtyping import Float

from plainspoken.calibrators.calibration import LEVEL_MAX, Calibration
from plainspoken.latents.evidence import Evidence


def fit_linear(evidence: Evidence, maximum: Float[np.ndarray, " latents"]) -> Calibration:
    """activation = a + b level between 0 and the maximum, (a, b) by least squares over all tokens with b >= 0.

    Keeping the line within what activations can be brings it nearer to them, wherever it left. Calibrating the truth
    onto itself gives a = 0, b = 1. A latent whose level never changes gets its mean.
    """
    level = evidence.level.astype(np.float64)
    tokens = np.maximum(evidence.tokens, 1.0)
    level_mean = evidence.per_latent(evidence.weight * level) / tokens
    away = level - level_mean[evidence.latent]
    spread = evidence.per_latent(evidence.weight * away**2)
    together = evidence.per_latent(evidence.total * away)
    b = np.divide(np.maximum(together, 0.0), spread, out=np.zeros_like(spread), where=spread > 0)
    a = evidence.mean - b * level_mean
    top = np.maximum(LEVEL_MAX, np.maximum.reduceat(level, evidence.pointer[:-1]))
    rising = np.where(b > 0, b, 1.0)
    limit = np.maximum(np.maximum(maximum, evidence.largest), a)
    leaves = np.where(a < 0, np.minimum(-a / rising, top), 0.0)
    reaches = np.where(b > 0, np.minimum((limit - a) / rising, top), top)
    low = np.maximum(a, 0.0)
    x = np.stack([np.zeros_like(top), leaves, reaches], axis=1)
    y = np.stack([low, low, np.maximum(a + b * reaches, low)], axis=1)
    return Calibration("linear", x.astype(np.float32), y.astype(np.float32))
