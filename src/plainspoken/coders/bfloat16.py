"""Products in bfloat16 where their rounding decides nothing, for training on machines that multiply it fast.

The largest product of a step only finds which latents may be among the k largest of a row. Its errors, some thousandths
of a pre-activation, decide who is on a list that is longer than k by a margin; which of those are chosen, and with what
value, is computed in float32. The skip's two products are rounded as training in mixed precision rounds them: a part in
500 of a step's skip output and of its gradient, at random, with weights and sums in float32.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.coders.largest import largest

_ROWS = 256
"""Rows at a time on a CPU: their pre-activations stay in the cache while they are searched."""


def candidates(
    x: Float[Tensor, "n d_in"], W_enc: Float[Tensor, "latents d_in"], b_enc: Float[Tensor, " latents"], k: int
) -> Int[Tensor, "n c"]:
    """Indices of the k + max(8, k / 4) largest of x W_encᵀ + b_enc, as bfloat16 has it, in each row."""
    wanted = min(k + max(8, k // 4), len(W_enc))
    W, b, rows = W_enc.detach().bfloat16().T, b_enc.detach().bfloat16(), x.detach().bfloat16()
    if x.is_cuda:
        return largest(torch.addmm(b, rows, W), wanted)[1]
    room = torch.empty(min(_ROWS, len(x)), len(W_enc), dtype=torch.bfloat16)
    found = []
    for part in rows.split(_ROWS):
        pre = torch.mm(part, W, out=room[: len(part)]).add_(b)
        found.append(largest(pre, wanted)[1])
    return torch.cat(found) if found else torch.empty(0, wanted, dtype=torch.long)


class _Skip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "n d_in"], W_skip: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "n d_out"]:
        rounded = x.bfloat16()
        ctx.save_for_backward(rounded)
        return (rounded @ W_skip.bfloat16().T).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "n d_out"]) -> tuple[None, Float[Tensor, "d_out d_in"]]:
        (rounded,) = ctx.saved_tensors
        return None, (gradients[0].bfloat16().T @ rounded).to(gradients[0].dtype)


def rounded_skip(x: Float[Tensor, "n d_in"], W_skip: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "n d_out"]:
    """x W_skipᵀ, differentiable in W_skip alone."""
    return _Skip.apply(x, W_skip)  # pyright: ignore[reportReturnType]


def pays(device: torch.device, latents: int, d_in: int) -> bool:
    """Whether bfloat16 is multiplied fast there, and the product is large enough to matter."""
    if latents * d_in < 2**21:
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
