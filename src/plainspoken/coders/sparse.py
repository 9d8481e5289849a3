"""Encode and decode at the entries of a support, with exact gradients that cost about as much as the forward pass."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.support import Support


class _PreAt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "n d_in"],
        W_enc: Float[Tensor, "latents d_in"],
        b_enc: Float[Tensor, " latents"],
        known: Float[Tensor, "*nnz"] | None,
        support: Support,
    ) -> Float[Tensor, "*nnz"]:
        ctx.save_for_backward(x, W_enc)
        ctx.support = support
        return support.dot(x, W_enc) + support.of_latent(b_enc) if known is None else known.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "*nnz"]) -> tuple[Float[Tensor, "..."] | None, ...]:
        x, W_enc = ctx.saved_tensors
        support: Support = ctx.support
        through, (need_x, need_W, need_b, *_) = gradients[0], ctx.needs_input_grad
        to_x = support.row_sum(through, W_enc) if need_x else None
        to_W = support.latent_sum(through, x) if need_W else None
        to_b = support.total(through) if need_b else None
        return to_x, to_W, to_b, None, None


class _DecodeAt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Float[Tensor, "*nnz"], W_dec: Float[Tensor, "latents d_out"], support: Support
    ) -> Float[Tensor, "n d_out"]:
        ctx.save_for_backward(values, W_dec)
        ctx.support = support
        return support.row_sum(values, W_dec)

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "n d_out"]) -> tuple[Float[Tensor, "..."] | None, ...]:
        values, W_dec = ctx.saved_tensors
        support: Support = ctx.support
        gradient = gradients[0].contiguous()
        to_values = support.dot(gradient, W_dec) if ctx.needs_input_grad[0] else None
        to_W = support.latent_sum(values, gradient) if ctx.needs_input_grad[1] else None
        return to_values, to_W, None


def pre_at(
    x: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "latents d_in"],
    b_enc: Float[Tensor, " latents"],
    support: Support,
    known: Float[Tensor, "*nnz"] | None = None,
) -> Float[Tensor, "*nnz"]:
    """The pre-activations x W_encᵀ + b_enc at the entries, differentiable in all three.

    `known`: these values, where they were computed already in finding the entries.
    """
    return _PreAt.apply(x, W_enc, b_enc, known, support)  # pyright: ignore[reportReturnType]


def decode_at(
    values: Float[Tensor, "*nnz"], W_dec: Float[Tensor, "latents d_out"], support: Support
) -> Float[Tensor, "n d_out"]:
    """The decoder's output without its bias, differentiable in the values and in W_dec."""
    return _DecodeAt.apply(values, W_dec, support)  # pyright: ignore[reportReturnType]
