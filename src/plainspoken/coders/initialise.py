"""A coder's weights before training, as in the paper (arXiv 2501.18838, section 3; released code of sparsify)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.base import Coder, CoderSpec


def initialise(
    spec: CoderSpec, mean_x: Float[Tensor, " d_in"], mean_y: Float[Tensor, " d_out"], generator: torch.Generator
) -> Coder:
    """A coder that starts from the mean output.

    Encoder rows are uniform in ±1/sqrt(d_in), drawn from `generator` (on the CPU, so that every device starts alike),
    and b_enc = -W_enc mean_x, so that latents look at x about its mean. A transcoder starts with W_dec = 0 and
    W_skip = 0, an sae with W_dec = W_enc and unit rows; b_dec = mean_y for both.
    """
    coder = Coder(spec)
    with torch.no_grad():
        bound = 1.0 / math.sqrt(spec.d_in)
        rows = (torch.rand(spec.latents, spec.d_in, generator=generator) * 2.0 - 1.0) * bound
        if spec.kind == "sae":
            rows = rows / rows.norm(dim=1, keepdim=True)
            coder.W_dec.copy_(rows)
        coder.W_enc.copy_(rows)
        coder.b_enc.copy_(-(rows @ mean_x.to(rows)))
        coder.b_dec.copy_(mean_y)
    return coder
