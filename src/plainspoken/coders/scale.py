"""Units: a coder trained on scaled activations becomes one for the activations as they are."""

import torch

from plainspoken.coders.base import Coder


def fold_scales(coder: Coder, x_scale: float, y_scale: float) -> Coder:
    """The coder c with c(x) = y_scale * coder(x / x_scale) and the same latents: the scales go into its weights."""
    folded = Coder(coder.spec, coder.W_enc.dtype).to(coder.W_enc.device)
    with torch.no_grad():
        folded.W_enc.copy_(coder.W_enc / x_scale)
        folded.b_enc.copy_(coder.b_enc)
        folded.W_dec.copy_(coder.W_dec * y_scale)
        folded.b_dec.copy_(coder.b_dec * y_scale)
        if coder.W_skip is not None and folded.W_skip is not None:
            folded.W_skip.copy_(coder.W_skip * (y_scale / x_scale))
    return folded
