"""Tokens drawn from a model's prediction by given uniform numbers, so that who owns the numbers owns the draw."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def draw(logits: Float[Tensor, "n vocabulary"], uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """A token for each row: the first at which the distribution function exceeds the row's number in [0, 1).

    The function is inverted in the logits' own precision and at its own total, which rounding leaves beside 1. Divide
    the logits by a temperature beforehand. On the logits' device, wherever the numbers are.
    """
    cumulative = logits.softmax(-1).cumsum(-1)
    height = uniform[:, None].to(cumulative) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, height, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)
