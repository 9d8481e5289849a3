"""Least squares: one straight line a latent, never falling, and never below zero, where no activation can be."""

import numpy as np
from jaxtyping import Float

from plainspoken.calibrators.calibration import LEVEL_MAX, Calibration
from plainspoken.latents.evidence import Evidence


def fit_linear(evidence: Evidence, maximum: Float[np.ndarray, " latents"]) -> Calibration:
    """activation = max(0, a + b level), (a, b) by least squares over all tokens with b >= 0.

    Calibrating the truth onto itself gives a = 0, b = 1. A latent whose level never changes gets its mean.
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
    # Where the line leaves zero: clipping it there can only bring it nearer to activations, which are never negative.
    leaves = np.where(a < 0, np.minimum(-a / np.where(b > 0, b, 1.0), top), 0.0)
    x = np.stack([np.zeros_like(top), leaves, top], axis=1)
    y = np.stack([np.maximum(a, 0.0), np.maximum(a, 0.0), np.maximum(a + b * top, 0.0)], axis=1)
    return Calibration("linear", x.astype(np.float32), y.astype(np.float32))
