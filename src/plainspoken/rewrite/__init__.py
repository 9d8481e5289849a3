"""Rewriting: simulated latents in the place of true ones, spliced into the running model; text from such a model."""

from plainspoken.rewrite.generate import Simulate, Voice, generate
from plainspoken.rewrite.material import SiteMaterial, Spoken, gather
from plainspoken.rewrite.prediction import Prediction, permuted, shuffle
from plainspoken.rewrite.spans import Positions, Spans, spans
from plainspoken.rewrite.treatment import Baseline, Batch, Keep, Mixture, Mode, Treated, Treatment

__all__ = [
    "Baseline",
    "Batch",
    "Keep",
    "Mixture",
    "Mode",
    "Positions",
    "Prediction",
    "Simulate",
    "SiteMaterial",
    "Spans",
    "Spoken",
    "Treated",
    "Treatment",
    "Voice",
    "gather",
    "generate",
    "permuted",
    "shuffle",
    "spans",
]
