"""Units: a coder trained on centred and scaled activations becomes one for the activations as they are."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.base import Coder


@dataclass(frozen=True, eq=False)
class Units:
    """What a coder is trained on: (x - x_mean) / x_scale and (y - y_mean) / y_scale."""

    x_mean: Float[Tensor, " d_in"]
    x_scale: float
    y_mean: Float[Tensor, " d_out"]
    y_scale: float


def fold_units(coder: Coder, units: Units) -> Coder:
    """The coder c with c(x) = y_mean + y_scale * coder((x - x_mean) / x_scale) and the same latents, of new weights."""
    folded = Coder(coder.spec, coder.W_enc.dtype).to(coder.W_enc.device)
    # In float64, so that each weight is rounded once: means may be many times the deviations from them.
    x_mean, y_mean = units.x_mean.to(coder.W_enc.device).double(), units.y_mean.to(coder.W_enc.device).double()
    with torch.no_grad():
        W_enc, b_dec = coder.W_enc.double() / units.x_scale, coder.b_dec.double() * units.y_scale + y_mean
        folded.W_enc.copy_(W_enc)
        folded.b_enc.copy_(coder.b_enc.double() - W_enc @ x_mean)
        folded.W_dec.copy_(coder.W_dec.double() * units.y_scale)
        if coder.threshold is not None and folded.threshold is not None:
            folded.threshold.copy_(coder.threshold)  # of pre-activations, which stay as they are
        if coder.W_skip is not None and folded.W_skip is not None:
            W_skip = coder.W_skip.double() * (units.y_scale / units.x_scale)
            folded.W_skip.copy_(W_skip)
            b_dec = b_dec - W_skip @ x_mean
        folded.b_dec.copy_(b_dec)
    return folded
