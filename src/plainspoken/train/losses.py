"""What training lowers: FVU, its prefixes, several k at once, dead latents' share, and the penalty on firing.

Each term is a sum over the rows at hand divided by the number of rows in the whole batch, so that processes which share
a batch add up their gradients. With nothing but FVU asked for, nothing but FVU is computed.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.coders import Coder
from plainspoken.coders.activation import Gather, alone
from plainspoken.coders.bfloat16 import rounded_skip
from plainspoken.coders.largest import largest
from plainspoken.coders.sparse import decode_at, pre_at
from plainspoken.coders.support import Sparse, Support
from plainspoken.train.fire import Firing, fire

MULTI = 4
"""Multi-TopK asks for a good code with this many times k latents as well."""
MULTI_WEIGHT = 1 / 8
LEAST_RESIDUAL = 1e-6
"""FVU below which the term of dead latents fades: it is a share of the residual, but of no smaller one than this."""


@dataclass(frozen=True)
class Objective:
    """Which terms, and their weights."""

    variance: float
    """mean ||y - mean y||² over the whole text: the denominator of FVU."""
    prefixes: tuple[int, ...] = ()
    """Matryoshka: numbers of latents that must do without the rest."""
    multi_topk: bool = False
    aux_k: float = 0.0
    rounded: bool = False
    """Products in bfloat16 where that decides nothing."""


@dataclass(frozen=True, eq=False)
class Terms:
    """A step's loss and what it is made of; all but `total` and `output` without gradients."""

    total: Float[Tensor, ""]
    fvu: Float[Tensor, ""]
    l0: Float[Tensor, ""]
    fired: Bool[Tensor, " latents"]
    output: Float[Tensor, "n d_out"]
    """What the coder makes of x, with gradients."""
    smallest: Float[Tensor, ""]
    """The smallest activation of the batch that fired; infinite where none did."""


def terms(
    coder: Coder,
    x: Float[Tensor, "n d_in"],
    y: Float[Tensor, "n d_out"],
    objective: Objective,
    rows: int,
    dead: Int[Tensor, " some"] | None = None,
    sparsity: Float[Tensor, ""] | float = 0.0,
    gather: Gather = alone,
) -> Terms:
    """The loss of this process's part (x, y) of a batch of `rows` rows.

    dead: latents that the aux term tries to bring back. sparsity: weight of the activation's penalty.

    total = FVU (or the mean FVU of all prefixes) + FVU with 4 k latents / 8 + aux_k * the share of the residual that
    dead latents leave, ||e - what they make||² / ||e||² over the batch, + sparsity * penalty / rows. (Gao et al. 2024,
    arXiv 2406.04093, sections 2 and A.2, and appendix D for several k; Bussmann et al. 2025, arXiv 2503.17547, for
    prefixes.) The share is of the residual, not of y, as in Gao et al.'s released code (not in sparsify's) but for the
    residual's mean, which they subtract in the denominator and b_dec keeps near 0: else the term fades as FVU falls,
    and brings fewer latents back.
    """
    k = coder.spec.k
    wide = min(MULTI * k, coder.spec.latents) if objective.multi_topk and k is not None else k
    firing = fire(coder, x, wide, objective.rounded, gather)
    z = firing.z
    if wide is not None and k is not None and wide != k:
        z = _strongest(z.view(len(x), wide), k)
    straight = _beside_latents(coder, x, objective.rounded)
    scale = rows * objective.variance
    outputs = _outputs(coder, firing.support, z, straight, objective.prefixes)
    fvus = [(out - y).square().sum() / scale for out in outputs]
    total = torch.stack(fvus).mean() if len(fvus) > 1 else fvus[0]
    if wide != k:
        out = straight + decode_at(firing.z, coder.W_dec, firing.support)
        total = total + MULTI_WEIGHT * (out - y).square().sum() / scale
    if objective.aux_k and dead is not None and len(dead):
        residual = (y - outputs[-1]).detach()
        whole = gather(residual.square().sum()[None]).sum().clamp(min=LEAST_RESIDUAL * scale)
        total = total + objective.aux_k * (_revived(coder, x, dead) - residual).square().sum() / whole
    penalty = coder.activation.penalty
    if penalty is not None:
        held = penalty(firing.support, firing.pre, firing.threshold, coder.W_dec, objective.variance)
        total = total + sparsity * held / rows
    return _told(total, fvus[-1], outputs[-1], firing, z, rows)


def _told(
    total: Float[Tensor, ""],
    fvu: Float[Tensor, ""],
    output: Float[Tensor, "n d_out"],
    firing: Firing,
    z: Float[Tensor, "*nnz"],
    rows: int,
) -> Terms:
    positive = z.detach() > 0
    smallest = torch.where(positive, z.detach(), torch.inf)
    return Terms(
        total=total,
        fvu=fvu.detach(),
        l0=positive.sum() / rows,
        fired=firing.support.latents_where(positive),
        output=output,
        smallest=smallest.min() if smallest.numel() else z.new_tensor(torch.inf),
    )


def _beside_latents(coder: Coder, x: Float[Tensor, "n d_in"], rounded: bool) -> Float[Tensor, "*rows d_out"]:
    """What the output holds beside the latents' part: b_dec, and W_skip x."""
    if coder.W_skip is None:
        return coder.b_dec
    return coder.b_dec + (rounded_skip(x, coder.W_skip) if rounded else x @ coder.W_skip.T)


def _outputs(
    coder: Coder,
    support: Support,
    z: Float[Tensor, "*nnz"],
    straight: Float[Tensor, "*rows d_out"],
    prefixes: tuple[int, ...],
) -> list[Float[Tensor, "n d_out"]]:
    """The coder's output with the latents of each prefix alone, and last with all of them."""
    if not prefixes:
        return [straight + decode_at(z, coder.W_dec, support)]
    place = support.of_latent(torch.arange(coder.spec.latents, device=z.device))
    outputs, begin, so_far = [], 0, straight
    for end in (*prefixes, coder.spec.latents):
        group = torch.where((place >= begin) & (place < end), z, 0)
        so_far = so_far + decode_at(group, coder.W_dec, support)
        outputs.append(so_far)
        begin = end
    return outputs


def _strongest(rows: Float[Tensor, "n wide"], k: int) -> Float[Tensor, " nnz"]:
    """The k largest of each row's entries, the others 0."""
    kept = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, rows.topk(k, dim=1, sorted=False).indices, True)
    return torch.where(kept, rows, 0).flatten()


def _revived(coder: Coder, x: Float[Tensor, "n d_in"], dead: Int[Tensor, " some"]) -> Float[Tensor, "n d_out"]:
    """What the d_in / 2 strongest dead latents of each row make of it, with gradients to encoder and decoder."""
    with torch.no_grad():
        pre = torch.addmm(coder.b_enc[dead], x, coder.W_enc[dead].T)
        known, best = largest(pre, min(max(1, coder.spec.d_in // 2), len(dead)))
    support = Sparse.regular(dead[best], coder.spec.latents)
    return decode_at(pre_at(x, coder.W_enc, coder.b_enc, support, known.flatten()).relu(), coder.W_dec, support)
