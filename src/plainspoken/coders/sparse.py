"""Encode and decode on the chosen latents alone, with exact gradients that cost about as much as the forward pass.

Both follow from three sums over the support of a batch, each one call to torch's embedding bag:

    row sum       out[i]   = sum_j values[i, j] * W[indices[i, j]]                  decode, and the gradient to x
    latent sum    out[l]   = sum of values[i, j] * g[i] over entries naming l       the gradients of W_dec and W_enc
    sampled dot   out[i,j] = <g[i], W[indices[i, j]]>                               the gradient of the values
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.coders.code import Support


def row_sum(
    values: Float[Tensor, "n k"], indices: Int[Tensor, "n k"], table: Float[Tensor, "latents d"]
) -> Float[Tensor, "n d"]:
    """sum_j values[i, j] * table[indices[i, j]]."""
    return torch.nn.functional.embedding_bag(indices, table, mode="sum", per_sample_weights=values)


def sampled_dot(
    left: Float[Tensor, "n d"], table: Float[Tensor, "latents d"], indices: Int[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """<left[i], table[indices[i, j]]> at the named entries only."""
    n, k = indices.shape
    starts = torch.arange(0, n * k, k, device=indices.device)
    row = torch.arange(n, device=indices.device).repeat_interleave(k)
    # The gradient of an embedding bag to its per-sample weights is exactly this product.
    flat = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        left.contiguous(), table, indices.flatten(), starts, row, 0
    )
    return flat.view(n, k)


class _Encode(torch.autograd.Function):
    """values = ReLU(x W_encᵀ + b_enc) at the chosen entries, which the caller has computed already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, values: Tensor, support: Support) -> Tensor:
        ctx.save_for_backward(x, W_enc, values)
        ctx.support = support
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, W_enc, values = ctx.saved_tensors
        support: Support = ctx.support
        through = gradients[0] * (values > 0)
        to_x = row_sum(through, support.indices, W_enc) if ctx.needs_input_grad[0] else None
        to_W = support.sum_by_latent(through, x) if ctx.needs_input_grad[1] else None
        to_b = None
        if ctx.needs_input_grad[2]:
            to_b = support.sum_by_latent(through, x.new_ones(x.shape[0], 1)).squeeze(1)
        return to_x, to_W, to_b, None, None


class _Decode(torch.autograd.Function):
    """sum_j values[i, j] * W_dec[indices[i, j]]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, W_dec: Tensor, support: Support) -> Tensor:
        ctx.save_for_backward(values, W_dec)
        ctx.support = support
        return row_sum(values, support.indices, W_dec)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, W_dec = ctx.saved_tensors
        support: Support = ctx.support
        to_values = sampled_dot(gradients[0], W_dec, support.indices) if ctx.needs_input_grad[0] else None
        to_W = support.sum_by_latent(values, gradients[0].contiguous()) if ctx.needs_input_grad[1] else None
        return to_values, to_W, None


def encode_at(
    x: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "latents d_in"],
    b_enc: Float[Tensor, " latents"],
    values: Float[Tensor, "n k"],
    support: Support,
) -> Float[Tensor, "n k"]:
    """`values`, known to be the encoder's at the support, as a differentiable function of x, W_enc and b_enc."""
    return _Encode.apply(x, W_enc, b_enc, values, support)  # pyright: ignore[reportReturnType]


def decode_at(
    values: Float[Tensor, "n k"], W_dec: Float[Tensor, "latents d_out"], support: Support
) -> Float[Tensor, "n d_out"]:
    """The decoder's output without its bias, differentiable in the values and in W_dec."""
    return _Decode.apply(values, W_dec, support)  # pyright: ignore[reportReturnType]
