"""What is known of a site's vectors once all of them, or a sample, were looked over."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from plainspoken.activations.masks import MaskCounts, NormLimits, find_outliers, norms
from plainspoken.activations.moments import Moments, moments
from plainspoken.activations.shares import Share
from plainspoken.types import Rows


@dataclass(frozen=True, eq=False)
class Survey:
    """Equal in all processes."""

    limits: NormLimits
    """The largest norms that are trained on."""
    counts: MaskCounts
    """What is masked."""
    moments: Moments
    """Mean and variance of what is not masked."""


def survey(
    x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], factor: float, rows: Rows, share: Share
) -> tuple[Survey, Bool[Tensor, " n"]]:
    """(what is known of the vectors of all processes, which of this one's, x and y, are not masked).

    factor: times the median norm, above which a vector is masked (0: none is). Raises ConfigError as `find_outliers`.
    """
    lengths = norms(x, y)
    limits, counts = find_outliers(*lengths, factor, rows, share)
    kept = limits.kept(*lengths)
    return Survey(limits, counts, moments(x, y, kept, share)), kept
