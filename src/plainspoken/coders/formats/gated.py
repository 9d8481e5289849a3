"""Gated coders are JumpReLU coders: gate and magnitude share their weights (arXiv 2404.16014, section 3.2)."""

from jaxtyping import Float
from torch import Tensor


def ungated(
    W_enc: Float[Tensor, "latents d_in"],
    r_mag: Float[Tensor, " latents"],
    b_mag: Float[Tensor, " latents"],
    b_gate: Float[Tensor, " latents"],
) -> tuple[Float[Tensor, "latents d_in"], Float[Tensor, " latents"], Float[Tensor, " latents"]]:
    """(W_enc, b_enc, threshold) of the JumpReLU coder that fires and is as large as the gated one.

    A latent fires where W x + b_gate > 0 and is ReLU(e^r W x + b_mag). Of pre = e^r W x + b_mag the former says
    pre > b_mag - e^r b_gate.
    """
    scale = r_mag.double().exp()
    threshold = b_mag.double() - scale * b_gate.double()
    return (W_enc.double() * scale[:, None]).float(), b_mag, threshold.float()
