"""Targets: a linear function of the residual stream at one token, such as a latent's pre-activation or a logit."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.circuits.frozen import Frozen
from plainspoken.errors import UsageError


@dataclass(frozen=True, eq=False)
class Targets:
    """b linear functions that read the stream at one place: value = direction · x[position] + offset.

    `layer`, `middle`: the place is where this layer's attention reads (False), or where its FFN reads (True); layer n
    of a model with n layers is where the final norm reads. Norm factors are held, and folded into the directions; what
    a norm's bias and the target's own bias add is the offset.
    """

    layer: int
    middle: bool
    position: Int[Tensor, " b"]
    direction: Float[Tensor, "b d"]
    offset: Float[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, some: slice | Int[Tensor, " some"]) -> "Targets":
        return Targets(self.layer, self.middle, self.position[some], self.direction[some], self.offset[some])


@torch.no_grad()
def latent_targets(frozen: Frozen, layer: int, position: Int[Tensor, " b"], latent: Int[Tensor, " b"]) -> Targets:
    """The pre-activations of latents of a layer's coder, firing or not.

    Raises UsageError for a layer that there is not or that has no coder, and for latents or positions that there are
    not.
    """
    if not 0 <= layer < len(frozen.layers):
        raise UsageError(f"no layer {layer}: {frozen.lm.name} has layers 0 to {len(frozen.layers) - 1}")
    at = frozen.layers[layer]
    if at.coder is None:
        having = ", ".join(str(i) for i, other in enumerate(frozen.layers) if other.coder is not None) or "none"
        raise UsageError(f"layer {layer} has no coder, so it has no latents: name a layer that has one ({having})")
    _require_within("latent", latent, at.coder.spec.latents)
    _require_within("position", position, frozen.t)
    rows, norm = at.coder.W_enc.detach()[latent], at.layer.ffn_norm
    offset = at.coder.b_enc.detach()[latent]
    offset = offset if norm.bias is None else offset + rows @ norm.bias.to(rows)
    direction = norm.adjoint(rows, at.ffn_factor[position])
    return Targets(layer, not at.layer.parallel, position, direction, offset)


def firing_targets(frozen: Frozen, layer: int, some: Int[Tensor, " b"] | slice = slice(None)) -> Targets:
    """The pre-activations of a layer's firing latents, all or some of the list."""
    latents = frozen.layers[layer].latents
    return latent_targets(frozen, layer, latents.position[some], latents.latent[some])


@torch.no_grad()
def logit_targets(
    frozen: Frozen, position: int, directions: Float[Tensor, "b vocabulary"] | None, tokens: Sequence[int] = ()
) -> Targets:
    """Logits at a position: of each of the tokens, less the mean over the vocabulary; or given weightings of logits.

    Logits are those before a soft cap, which is not linear (Gemma 2). Raises UsageError for a token or a position that
    there is not.
    """
    of, place = frozen.anatomy, torch.full((len(tokens) if directions is None else len(directions),), position)
    place = place.to(frozen.tokens.device)
    _require_within("position", place, frozen.t)
    _require_within("token", torch.as_tensor(tokens, dtype=torch.long), len(of.W_U))
    W_U = of.W_U.detach().to(frozen.dtype)
    b_U = W_U.new_zeros(len(W_U)) if of.b_U is None else of.b_U.detach().to(frozen.dtype)
    if directions is None:
        chosen = torch.as_tensor(tokens, dtype=torch.long, device=W_U.device)
        rows, own = W_U[chosen] - W_U.mean(0), b_U[chosen] - b_U.mean()
    else:
        rows, own = directions.to(W_U) @ W_U, directions.to(W_U) @ b_U
    return output_targets(frozen, place, rows, own)


def _require_within(what: str, numbers: Int[Tensor, " b"], n: int) -> None:
    outside = numbers[(numbers < 0) | (numbers >= n)]
    if len(outside):
        raise UsageError(f"no {what} {int(outside[0])} here: there are 0 to {n - 1}")


@torch.no_grad()
def output_targets(
    frozen: Frozen, position: Int[Tensor, " b"], rows: Float[Tensor, "b d"], own: Float[Tensor, " b"]
) -> Targets:
    """rows · (the final norm's output) + own."""
    norm = frozen.anatomy.final
    offset = own if norm.bias is None else own + rows @ norm.bias.to(rows)
    direction = norm.adjoint(rows, frozen.final_factor[position])
    return Targets(len(frozen.layers), False, position, direction, offset)


def value_of(frozen: Frozen, targets: Targets) -> Float[Tensor, " b"]:
    """direction · x + offset, from the stream itself."""
    x = stream_at(frozen, targets.layer, targets.middle)
    return (x[targets.position] * targets.direction).sum(-1) + targets.offset


def stream_at(frozen: Frozen, layer: int, middle: bool) -> Float[Tensor, "t d"]:
    """The residual stream where a layer's attention (or its FFN) reads, summed from the sources."""
    x = frozen.embedded if frozen.placed is None else frozen.embedded + frozen.placed
    for i in range(layer + 1):
        if i == len(frozen.layers) or (i == layer and not middle):
            break
        at = frozen.layers[i]
        x_after = x + moved_of(frozen, i) + at.attention_bias
        if i == layer:
            return x if at.layer.parallel else x_after
        x = x_after + ffn_of(frozen, i)
    return x


def moved_of(frozen: Frozen, layer: int) -> Float[Tensor, "t d"]:
    """What a layer's heads add to the stream, its biases aside."""
    at = frozen.layers[layer]
    values = torch.einsum("sd,ged->gse", at.stream, at.W_V)[at.group]
    return torch.einsum("hte,hed->td", at.mix @ values, at.W_O)


def ffn_of(frozen: Frozen, layer: int) -> Float[Tensor, "t d"]:
    """What a layer's FFN adds to the stream: latents, skip, error and bias together."""
    at = frozen.layers[layer]
    total = at.error + at.ffn_bias
    total = total if at.skipped is None else total + at.skipped
    return total.index_add(0, at.latents.position, at.latents.written)
