"""Directions and vectors of the stream in words: which tokens a direction reads, which tokens a vector promotes.

De-embedding: n · (the embedding of each token, as it enters the stream), of any direction n, such as a latent's encoder
row (`encoder_directions`) or what a head reads for it (`pullback_heads`). Unembedding: what a vector v, such as a
latent's decoder row (`decoder_vectors`), adds to each token's logit through the final norm's weight, less the mean over
the vocabulary, which no probability depends on. Both are linear: factors of norms are left out, as they depend on the
prompt. (Dunefsky et al., arXiv 2406.11944, section 4.1; Geva et al. 2022: what FFNs promote.)

What excites a latent is its pre-activation less its bias where the stream holds a token's embedding alone: W_enc
norm(E), the norm before the FFN applied as it is, since its factor is known there. At the first layer of a model with
parallel residuals that is the true pre-activation, whatever the text. A coder of the stream itself has no norm before
it, and one that reads an FFN's output reads no embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.ranked import ranked
from plainspoken.circuits.weights import summable
from plainspoken.lm.anatomy import Anatomy
from plainspoken.types import Site

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


@torch.no_grad()
def exciting(of: Anatomy, site: Site, encoder: Float[Tensor, "b d"]) -> Float[Tensor, "b vocabulary"] | None:
    """How each token's embedding alone excites latents with these encoder rows; None where none is read."""
    rows, enter = summable(encoder), _entering(of, site)
    if enter is None:
        return None
    return torch.cat([rows @ enter(W_E.to(rows)).T for W_E in of.W_E.split(_TOKENS_AT_ONCE)], 1)


@dataclass(frozen=True, eq=False)
class TokenEffects:
    """For each latent k tokens, the strongest first, and what it does to them, or they to it."""

    token: Int[np.ndarray, "latents k"]
    effect: Float[np.ndarray, "latents k"]


@torch.no_grad()
def promoted_tokens(
    of: Anatomy, vectors: Float[Tensor, "latents d"], k: int, pieces: Sequence[bytes] | None = None
) -> tuple[TokenEffects, TokenEffects]:
    """The k tokens at both ends of each `unembedding`, by blocks: promoted, suppressed.

    `pieces`: what tokens spell, by id: those without text are left out.
    """
    found = ranked(
        of.final.unfolded(vectors), [of.W_U], k, (torch.clone, torch.neg), centred=True, kept=_spelled(pieces, of.W_U)
    )
    promoted, suppressed = (TokenEffects(each.index, each.value) for each in found)
    return promoted, suppressed


@torch.no_grad()
def exciting_tokens(
    of: Anatomy, site: Site, encoder: Float[Tensor, "latents d"], k: int, pieces: Sequence[bytes] | None = None
) -> TokenEffects | None:
    """The k tokens that excite each latent most, as `exciting` has it, by blocks."""
    enter = _entering(of, site)
    if enter is None:
        return None
    kept = _spelled(pieces, of.W_E)
    [found] = ranked(summable(encoder), [of.W_E], k, (torch.clone,), kept=kept, entering=enter)
    return TokenEffects(found.index, found.value)


def _entering(of: Anatomy, site: Site) -> Callable[[Float[Tensor, "c d"]], Float[Tensor, "c d"]] | None:
    """What a coder at a site reads where the stream holds an embedding alone; None: of an FFN's output, nothing."""
    layer = of.layer_of(site.module)
    if site.kind != "mlp":
        return None if layer is not None else lambda some: some * of.scale
    assert layer is not None, f"{site.module} is an FFN of no layer"
    norm = of.layers[layer].ffn_norm
    return lambda some: norm.whole(some * of.scale)


def _spelled(
    pieces: Sequence[bytes] | None, matrix: Float[Tensor, "vocabulary d"]
) -> Bool[Tensor, " vocabulary"] | None:
    """Which rows are of a token that has text; None: whichever."""
    if pieces is None:
        return None
    return torch.tensor([i < len(pieces) and bool(pieces[i]) for i in range(len(matrix))], device=matrix.device)


def ends(scores: Float[Tensor, "b vocabulary"], top: int) -> Ends:
    """The tokens of the highest and of the lowest scores: promoted and suppressed, or read for and against."""
    top = min(top, scores.shape[1])
    highest, lowest = scores.topk(top, 1), scores.topk(top, 1, largest=False)
    return Ends(highest.indices, highest.values, lowest.indices, lowest.values)
