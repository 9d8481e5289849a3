"""The forward pass of training up to the latents: which entries of a batch fire, and their values with gradients."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders import Coder
from plainspoken.coders.activation import Gather, alone
from plainspoken.coders.bfloat16 import candidates
from plainspoken.coders.sparse import pre_at
from plainspoken.coders.support import Dense, Sparse, Support


@dataclass(frozen=True, eq=False)
class Firing:
    """The entries of a batch through which anything flows; `z` is 0 at those that do not fire after all."""

    support: Support
    pre: Float[Tensor, "*nnz"]
    z: Float[Tensor, "*nnz"]
    threshold: Float[Tensor, "..."] | None
    """Of each entry's latent where every latent has its own (one for all rows where the support is dense)."""


def fire(
    coder: Coder, x: Float[Tensor, "n d_in"], k: int | None, rounded: bool = False, gather: Gather = alone
) -> Firing:
    """What fires in a batch. Gradients flow through values and thresholds, never through the choice of entries.

    rounded: the k largest of a row are looked for in bfloat16 first (`coders.bfloat16`). gather: of the processes that
    share the batch.
    """
    with torch.no_grad():
        if rounded:
            assert k is not None
            support, known = _searched(coder, x, k)
        else:
            support, known = _chosen(coder, x, k, gather)
    pre = pre_at(x, coder.W_enc, coder.b_enc, support, known)
    threshold = None
    if coder.threshold is not None and coder.activation.threshold == "each":
        threshold = support.of_latent(coder.threshold)
    return Firing(support, pre, coder.activation.value(pre, threshold), threshold)


def _chosen(
    coder: Coder, x: Float[Tensor, "n d_in"], k: int | None, gather: Gather
) -> tuple[Support, Float[Tensor, "*nnz"]]:
    """(entries, their pre-activations) among all pre-activations of the batch."""
    pre = coder.pre(x)
    chosen = coder.activation.choose(pre, k, coder.threshold, gather)
    if isinstance(chosen, Tensor):
        return Sparse.regular(chosen, coder.spec.latents), pre.gather(1, chosen).flatten()
    if isinstance(chosen, Dense):
        return chosen, pre
    assert isinstance(chosen, Sparse)
    return chosen, pre[chosen.row, chosen.latent]


def _searched(coder: Coder, x: Float[Tensor, "n d_in"], k: int) -> tuple[Sparse, Float[Tensor, " nnz"]]:
    """The same for the k largest of each row: candidates in bfloat16, and of these the k largest in full precision."""
    found = candidates(x, coder.W_enc, coder.b_enc, k)
    pre = (Sparse.regular(found, coder.spec.latents).dot(x, coder.W_enc).view_as(found)).add_(coder.b_enc[found])
    known, best = pre.topk(k, dim=1, sorted=False)
    return Sparse.regular(found.gather(1, best), coder.spec.latents), known.flatten()
