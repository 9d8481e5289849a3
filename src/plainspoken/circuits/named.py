"""One latent's weights as tokens and other latents know them, without any prompt: signed, both ends of each list.

As the dashboards have it for all latents of a coder at once: promoted is what `vocabulary.unembedding` makes of its
decoder row (less the mean over the vocabulary), through the norm that stands after the FFN, if any; read is its encoder
row on the norm of each token's embedding. Between latents, the decoder row of the earlier, as it is added to the
stream, meets the encoder row of the later, with the norm before it folded in but for its factor, which is a prompt's
(arXiv 2406.11944, section 4.1).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.vocabulary import unembedding
from plainspoken.coders import Coder
from plainspoken.lm.anatomy import Anatomy


@torch.no_grad()
def promoted(of: Anatomy, layer: int, coder: Coder, latent: int) -> Float[Tensor, " vocabulary"]:
    """What an activation of 1 adds to each token's logit, less their mean, where the final norm's factor is 1."""
    return unembedding(of, written_rows(of, layer, coder)[latent][None])[0]


@torch.no_grad()
def deembedded(of: Anatomy, layer: int, coder: Coder, latent: int) -> Float[Tensor, " vocabulary"]:
    """The latent's pre-activation less its bias, where the stream holds a token's embedding alone."""
    y = of.layers[layer].ffn_norm.whole(of.scale * of.W_E.detach().float())
    return y @ coder.W_enc.detach()[latent].float()


@torch.no_grad()
def from_earlier(
    of: Anatomy, layer: int, coder: Coder, latent: int, earlier: int, other: Coder
) -> Float[Tensor, " latents"]:
    """What each latent of an earlier layer adds to this one, both at activation and norm factor 1."""
    reads = of.layers[layer].ffn_norm.folded(coder.W_enc.detach()[latent].float())
    return written_rows(of, earlier, other) @ reads


@torch.no_grad()
def to_later(of: Anatomy, layer: int, coder: Coder, latent: int, later: int, other: Coder) -> Float[Tensor, " latents"]:
    """What this latent adds to each of a later layer."""
    reads = of.layers[later].ffn_norm.folded(other.W_enc.detach().float())
    return reads @ written_rows(of, layer, coder)[latent]


@torch.no_grad()
def written_rows(of: Anatomy, layer: int, coder: Coder) -> Float[Tensor, "latents d"]:
    """Decoder rows as they are added to the stream, but for the factor of a norm after the FFN (Gemma 2 and 3)."""
    rows, after = coder.W_dec.detach().float(), of.layers[layer].ffn_out
    return rows if after is None else after.unfolded(rows)
