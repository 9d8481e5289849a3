"""Directions and vectors of the stream in words: which tokens a direction reads, which tokens a vector promotes.

De-embedding: n · (the embedding of each token, as it enters the stream), of any direction n, such as a latent's encoder
row (`encoder_directions`) or what a head reads for it (`pullback_heads`). Unembedding: what a vector v, such as a
latent's decoder row (`decoder_vectors`), adds to each token's logit through the final norm's weight, less the mean over
the vocabulary, which no probability depends on. Both are linear: factors of norms are left out, as they depend on the
prompt. (Dunefsky et al., arXiv 2406.11944, section 4.1; Geva et al. 2022: what FFNs promote.)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.lm.anatomy import Anatomy

_TOKENS_AT_ONCE = 2**14


@dataclass(frozen=True, eq=False)
class Ends:
    """For each of b the tokens at both ends, the most extreme first, with their scores."""

    highest: Int[Tensor, "b top"]
    highest_score: Float[Tensor, "b top"]
    lowest: Int[Tensor, "b top"]
    lowest_score: Float[Tensor, "b top"]


@torch.no_grad()
def de_embedding(of: Anatomy, directions: Float[Tensor, "b d"]) -> Float[Tensor, "b vocabulary"]:
    """What each token's embedding adds to each direction; learned positions are not in it."""
    return torch.cat([directions @ (W_E.to(directions) * of.scale).T for W_E in of.W_E.split(_TOKENS_AT_ONCE)], 1)


@torch.no_grad()
def unembedding(of: Anatomy, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b vocabulary"]:
    """What each vector adds to each token's logit, less the mean over the vocabulary, but for the norm's factor."""
    entered = of.final.unfolded(vectors)
    logits = torch.cat([entered @ W_U.to(entered).T for W_U in of.W_U.split(_TOKENS_AT_ONCE)], 1)
    return logits - logits.mean(1, keepdim=True)


def ends(scores: Float[Tensor, "b vocabulary"], top: int) -> Ends:
    """The tokens of the highest and of the lowest scores: promoted and suppressed, or read for and against."""
    top = min(top, scores.shape[1])
    highest, lowest = scores.topk(top, 1), scores.topk(top, 1, largest=False)
    return Ends(highest.indices, highest.values, lowest.indices, lowest.values)
