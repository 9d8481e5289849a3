"""Latents over a corpus: where each fires, how often and how strongly, examples, and what each does to the loss."""

from plainspoken.latents.encode import encode_rows
from plainspoken.latents.examples import Example, examples
from plainspoken.latents.influence import latent_weight, loss_metric
from plainspoken.latents.statistics import LatentStatistics, statistics
from plainspoken.latents.table import FiringTable

__all__ = [
    "Example",
    "FiringTable",
    "LatentStatistics",
    "encode_rows",
    "examples",
    "latent_weight",
    "loss_metric",
    "statistics",
]
