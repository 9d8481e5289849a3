"""Negative log-likelihood of each token of a row."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from plainspoken.lm.load import LanguageModel


@torch.no_grad()
def token_nll(lm: LanguageModel, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Nats: position i holds the negative log-likelihood of token i+1, and 0 where that token is masked out.

    Tokens and mask are moved to the model's device; the result stays there. Whatever is spliced into the model counts.
    """
    tokens, mask = tokens.to(lm.device), mask.to(lm.device)
    return nll_of_logits(lm.model(tokens.long(), use_cache=False).logits, tokens, mask)


def nll_of_logits(
    logits: Float[Tensor, "b t vocabulary"], tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b t"]:
    """The same from the logits of a forward pass, in float32."""
    out = torch.zeros(tokens.shape, dtype=torch.float32, device=logits.device)
    losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten().long(), reduction="none")
    out[:, :-1] = losses.view(len(tokens), -1) * mask[:, 1:]
    return out
