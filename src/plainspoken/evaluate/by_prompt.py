"""Means over prompts with their intervals: prompts are what is drawn anew, the same ones under all conditions.

Where random units are part of a figure, their draws are drawn anew too: other draws come out otherwise.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from plainspoken.evaluate.statistics import recovered, with_intervals


def resampled(
    values: Float[np.ndarray, " prompts"], counts: Float[np.ndarray, "values prompts"]
) -> Float[np.ndarray, " values"]:
    """The mean over prompts in every sample. `counts`: as `statistics.samples` draws prompts."""
    return counts @ values / counts.sum(axis=1)


def over_prompts(
    by_prompt: Mapping[str, Float[np.ndarray, " prompts"]], counts: Float[np.ndarray, "values prompts"]
) -> dict[str, float | None]:
    """Each mean, `NAME`, with `NAME_low` and `NAME_high`."""
    return with_intervals({name: resampled(values, counts) for name, values in by_prompt.items()})


def over_both(
    random: Float[np.ndarray, "draws prompts"], counts: Float[np.ndarray, "values prompts"], seed: int
) -> Float[np.ndarray, " known"]:
    """The mean over prompts and draws of random units in every sample of both, of all of them in the first.

    Of a single draw the first alone: how far others lie from it is not known.
    """
    draws = len(random)
    often = np.random.default_rng([seed, 0xD4]).multinomial(draws, np.full(draws, 1 / draws), size=len(counts))
    often[0] = 1  # as `statistics.samples` has it
    if draws == 1:
        counts, often = counts[:1], often[:1]
    by_draw = counts @ random.T / counts.sum(axis=1)[:, None]
    return (by_draw * often).sum(axis=1) / often.sum(axis=1)


def share_of_gap(
    floor: Float[np.ndarray, " values"], original: Float[np.ndarray, " values"], now: Float[np.ndarray, " values"]
) -> Float[np.ndarray, " values"]:
    """(now - floor) / (original - floor) of means; NaN where the floor is no lower than the model as it is."""
    return recovered(-floor, -original, -now)
