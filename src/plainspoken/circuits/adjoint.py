"""Rows: the contribution of every source to targets, by walking the gradient down the frozen model.

No automatic differentiation: each step of the frozen model is a linear map whose transpose is written out, batched over
targets that read the stream at one place, and cut to the tokens up to the last one that any of them reads. Gradients
lie position first, [t b d], so that what stands at one token is one matrix.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.circuits.frozen import Frozen, FrozenLayer
from plainspoken.circuits.targets import Targets


@dataclass(frozen=True)
class LayerColumns:
    """Where a layer's sources stand among the columns: first its biases, then error by token, then latents."""

    attention_bias: int
    ffn_bias: int
    error: slice
    latents: slice


@dataclass(frozen=True)
class Columns:
    """The columns of a row: tokens' embeddings, positions' (where learned), then layer by layer, lowest first."""

    token: slice
    position: slice
    layers: tuple[LayerColumns, ...]
    total: int


def columns(frozen: Frozen) -> Columns:
    """Which source stands where in a row."""
    t = frozen.t
    placed = slice(t, t if frozen.placed is None else 2 * t)
    at, layers = placed.stop, []
    for layer in frozen.layers:
        n = len(layer.latents)
        layers.append(LayerColumns(at, at + 1, slice(at + 2, at + 2 + t), slice(at + 2 + t, at + 2 + t + n)))
        at += 2 + t + n
    return Columns(slice(0, t), placed, tuple(layers), at)


@torch.no_grad()
def rows(frozen: Frozen, targets: Targets) -> Float[Tensor, "columns b"]:
    """Each target's contributions, a column a target: its value is their sum and its offset.

    Contributions pass through heads and skips; latents are where they end. A bias is one source for all tokens.
    """
    where = columns(frozen)
    out = targets.direction.new_zeros(where.total, len(targets))
    walk(frozen, targets, seed(targets), out, where, single=True)
    return out


def seed(targets: Targets) -> Float[Tensor, "t b d"]:
    """The gradient at the place that the targets read, up to the last token that any of them reads."""
    t = int(targets.position.max()) + 1 if len(targets) else 0
    gradient = targets.direction.new_zeros(t, len(targets), targets.direction.shape[1])
    gradient[targets.position, torch.arange(len(targets), device=gradient.device)] = targets.direction
    return gradient


def walk(
    frozen: Frozen,
    targets: Targets,
    gradient: Float[Tensor, "t b d"],
    out: Float[Tensor, "columns b"],
    where: Columns,
    single: bool = False,
) -> None:
    """Fills the rows from a gradient at the targets' place down to the embeddings.

    `single`: each target's gradient stands at its own position alone, which makes the first attention cheap.
    """
    step = partial(adjoint_at, position=targets.position) if single else attention_adjoint
    if targets.middle and targets.layer < len(frozen.layers):
        layer, at = frozen.layers[targets.layer], where.layers[targets.layer]
        note_attention_bias(layer, gradient, out, at)
        gradient, step = gradient + step(layer, gradient), attention_adjoint
    for i in reversed(range(targets.layer)):
        layer, at = frozen.layers[i], where.layers[i]
        below = past_ffn(layer, gradient, out, at)
        reading = gradient if layer.layer.parallel else below
        note_attention_bias(layer, reading, out, at)
        gradient, step = below + step(layer, reading), attention_adjoint
    note_embeddings(frozen, gradient, out, where)


@torch.no_grad()
def ffn_gradients(frozen: Frozen, targets: Targets) -> Iterator[tuple[int, Float[Tensor, "t b d"]]]:
    """(layer, the gradient where its FFN writes) of a model frozen without coders, the last layer first."""
    gradient, step = seed(targets), partial(adjoint_at, position=targets.position)
    if targets.middle and targets.layer < len(frozen.layers):
        gradient, step = gradient + step(frozen.layers[targets.layer], gradient), attention_adjoint
    for i in reversed(range(targets.layer)):
        yield i, gradient
        gradient, step = gradient + step(frozen.layers[i], gradient), attention_adjoint


def note_embeddings(
    frozen: Frozen, gradient: Float[Tensor, "t b d"], out: Float[Tensor, "columns b"], where: Columns
) -> None:
    """Notes what the embeddings contribute, at the bottom of the stream."""
    t = len(gradient)
    out[where.token][:t] = _dot(gradient, frozen.embedded[:t])
    if frozen.placed is not None:
        out[where.position][:t] = _dot(gradient, frozen.placed[:t])


def note_attention_bias(
    layer: FrozenLayer, gradient: Float[Tensor, "t b d"], out: Float[Tensor, "columns b"], at: LayerColumns
) -> None:
    """Notes what attention's biases contribute, at all tokens together."""
    out[at.attention_bias] = _dot(gradient, layer.attention_bias[: len(gradient)]).sum(0)


def past_ffn(
    layer: FrozenLayer, gradient: Float[Tensor, "t b d"], out: Float[Tensor, "columns b"], at: LayerColumns
) -> Float[Tensor, "t b d"]:
    """Notes what the FFN's sources contribute; the gradient before it."""
    t = len(gradient)
    if layer.coder is None and not len(layer.latents):
        out[at.error][:t] = _dot(gradient, layer.error[:t])
        return gradient
    both = gradient @ torch.stack([layer.error[:t], layer.ffn_bias[:t]], 2)  # the gradient is read once
    out[at.error][:t], out[at.ffn_bias] = both[:, :, 0], both[:, :, 1].sum(0)
    start, contributions = layer.latents.start.tolist(), out[at.latents]
    for p in range(t):
        if start[p] < start[p + 1]:
            mine = slice(start[p], start[p + 1])
            torch.mm(layer.latents.written[mine], gradient[p].T, out=contributions[mine])
    if layer.W_skip is None:
        return gradient
    return gradient + (gradient @ layer.W_skip) * layer.skip_factor[:t, None, None]


def attention_adjoint(layer: FrozenLayer, gradient: Float[Tensor, "t b d"]) -> Float[Tensor, "t b d"]:
    """The gradient that all heads together hand on to the stream that attention reads."""
    by_head = head_gradients(layer, gradient)
    h, t, b, size = by_head.shape
    kv, _, d = layer.W_V.shape
    if kv != h:
        by_head = by_head.new_zeros(kv, t, b, size).index_add_(0, layer.group, by_head)
    return (by_head.permute(1, 2, 0, 3).reshape(t * b, kv * size) @ layer.W_V.reshape(kv * size, d)).view(t, b, d)


def adjoint_at(
    layer: FrozenLayer, gradient: Float[Tensor, "t b d"], position: Int[Tensor, " b"]
) -> Float[Tensor, "t b d"]:
    """The same of gradients that stand at one position each: a head's is then of rank one in token and width."""
    t, b, _ = gradient.shape
    h, size, d = layer.W_O.shape
    own = gradient[position, torch.arange(b, device=gradient.device)]
    folded = (own @ layer.W_O.reshape(h * size, d).T).view(b, h, size).transpose(0, 1)
    by_head = (folded @ layer.W_V[layer.group]).transpose(0, 1)
    return (layer.mix[:, position, :t].permute(1, 2, 0) @ by_head).transpose(0, 1).contiguous()


def head_gradients(layer: FrozenLayer, gradient: Float[Tensor, "t b d"]) -> Float[Tensor, "h t b d_head"]:
    """The gradient at each head's values, by source token."""
    t, b, d = gradient.shape
    h, size, _ = layer.W_O.shape
    folded = gradient.reshape(t * b, d) @ layer.W_O.reshape(h * size, d).T
    by_head = folded.view(t, b, h, size).permute(2, 0, 1, 3).reshape(h, t, b * size)
    return (layer.mix[:, :t, :t].mT @ by_head).view(h, t, b, size)


def _dot(gradient: Float[Tensor, "t b d"], vectors: Float[Tensor, "t d"]) -> Float[Tensor, "t b"]:
    return (gradient @ vectors[:, :, None]).squeeze(2)
