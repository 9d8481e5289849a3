"""Means over prompts with their intervals: prompts are what is drawn anew, the same ones under all conditions."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from plainspoken.evaluate.statistics import recovered, with_interval


def over_prompts(
    by_prompt: Mapping[str, Float[np.ndarray, " prompts"]], counts: Float[np.ndarray, "values prompts"]
) -> dict[str, float | None]:
    """Each mean, `NAME`, with `NAME_low` and `NAME_high`. `counts`: as `statistics.samples` draws prompts."""
    each = {name: with_interval(name, counts @ values / counts.sum(axis=1)) for name, values in by_prompt.items()}
    return {name: number for record in each.values() for name, number in record.items()}


def share_of_gap(
    counts: Float[np.ndarray, "values prompts"],
    floor: Float[np.ndarray, " prompts"],
    original: Float[np.ndarray, " prompts"],
    now: Float[np.ndarray, " prompts"],
) -> Float[np.ndarray, " values"]:
    """(now - floor) / (original - floor) of the means; NaN where the floor is no lower than the model as it is."""
    return recovered(-(counts @ floor), -(counts @ original), -(counts @ now))
