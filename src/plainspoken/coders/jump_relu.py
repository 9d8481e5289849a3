"""JumpReLU: each latent fires above a learned threshold of its own (Rajamanoharan et al. 2024, arXiv 2407.14435).

A threshold moves the loss only where a pre-activation crosses it, so its gradient is estimated from the pre-activations
in a window of `BANDWIDTH` around it (equations 11 and 12, a rectangle as kernel).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.activation import Activation, Gather, above, entries_above
from plainspoken.coders.code import SparseCode
from plainspoken.coders.support import Support

BANDWIDTH = 0.05
"""The window's width, in units of a pre-activation (of order 1 where activations are normalised)."""


def encode(pre: Float[Tensor, "n latents"], _: int | None, threshold: Float[Tensor, " latents"] | None) -> SparseCode:
    """ReLU(pre) where it is above the latent's threshold (equation 3)."""
    assert threshold is not None
    return above(pre, threshold)


def choose(
    pre: Float[Tensor, "n latents"], _: int | None, threshold: Float[Tensor, " latents"] | None, __: Gather
) -> Support:
    """Every entry that fires or lies in the window of its threshold."""
    assert threshold is not None
    return entries_above(pre, threshold - BANDWIDTH / 2)


class _Jump(torch.autograd.Function):
    """z = pre where pre > threshold and pre > 0, else 0."""

    @staticmethod
    def forward(ctx: Any, pre: Float[Tensor, "*nnz"], threshold: Float[Tensor, "..."]) -> Float[Tensor, "*nnz"]:
        ctx.save_for_backward(pre, threshold)
        return torch.where(pre > threshold, pre, 0).relu()

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "*nnz"]) -> tuple[Float[Tensor, "*nnz"], Float[Tensor, "..."]]:
        pre, threshold = ctx.saved_tensors
        (gradient,) = gradients
        fires = (pre > threshold) & (pre > 0)
        to_threshold = -gradient * threshold * _window(pre, threshold)
        return gradient * fires, to_threshold.sum_to_size(threshold.shape)


class _Step(torch.autograd.Function):
    """1 where pre > threshold, else 0."""

    @staticmethod
    def forward(ctx: Any, pre: Float[Tensor, "*nnz"], threshold: Float[Tensor, "..."]) -> Float[Tensor, "*nnz"]:
        ctx.save_for_backward(pre, threshold)
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "*nnz"]) -> tuple[None, Float[Tensor, "..."]]:
        pre, threshold = ctx.saved_tensors
        return None, (-gradients[0] * _window(pre, threshold)).sum_to_size(threshold.shape)


def _window(pre: Float[Tensor, "*nnz"], threshold: Float[Tensor, "..."]) -> Float[Tensor, "*nnz"]:
    """The kernel: 1 / BANDWIDTH within half a bandwidth of the threshold."""
    return ((pre - threshold).abs() < BANDWIDTH / 2).to(pre.dtype) / BANDWIDTH


def value(pre: Float[Tensor, "*nnz"], threshold: Float[Tensor, "..."] | None) -> Float[Tensor, "*nnz"]:
    """z at the entries, with the estimated gradient to their thresholds (equation 11)."""
    return _Jump.apply(pre, threshold)  # pyright: ignore[reportReturnType]


def l0(
    _: Support,
    pre: Float[Tensor, "*nnz"],
    threshold: Float[Tensor, "..."] | None,
    __: Float[Tensor, "latents d_out"],
    ___: float,
) -> Float[Tensor, ""]:
    """How many fire, with the estimated gradient to their thresholds (equation 12)."""
    return _Step.apply(pre, threshold).sum()  # pyright: ignore[reportAttributeAccessIssue]


JUMP_RELU = Activation(
    "jump_relu", encode, choose, value,
    by="threshold", threshold="each", learned=True, start=BANDWIDTH / 2, penalty=l0,
)  # fmt: skip
