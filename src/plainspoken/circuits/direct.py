"""One hop: what each part of the model adds, by itself, to what a direction reads of the stream at one token.

The stream at a token is the sum of its token's and position's embeddings and of what each earlier layer added there:
each head's reading of each source token, the layer's constants, each firing latent, the skip, the coder's error. A
linear function of the stream is the sum over these of direction · vector: nothing is followed any further, and nothing
is left out. (Dunefsky et al., arXiv 2406.11944, section 4; without the biases and positions that their code omits.)

A head's terms are mix[dst, src] (stream[src] · W_Vᵀ W_O direction): the direction is folded through the head first, so
that all heads and tokens cost two small products, and not a product per token.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.circuits.frozen import Frozen, FrozenLayer
from plainspoken.circuits.graph import Node
from plainspoken.circuits.targets import Targets


@dataclass(frozen=True, eq=False)
class Readers:
    """b linear functions of the stream, each at a place of its own: direction · x[position].

    `attended`, `fed`: of how many layers the attention (the FFN) has written to the stream before it is read there.
    """

    attended: Int[Tensor, " b"]
    fed: Int[Tensor, " b"]
    position: Int[Tensor, " b"]
    direction: Float[Tensor, "b d"]

    def __len__(self) -> int:
        return len(self.position)


def readers_of(frozen: Frozen, targets: Targets) -> Readers:
    """The linear functions that the targets are, their offsets aside."""
    own = targets.middle and targets.layer < len(frozen.layers) and not frozen.layers[targets.layer].layer.parallel
    fed = torch.full_like(targets.position, targets.layer)
    return Readers(fed + int(own), fed, targets.position, targets.direction)


def joined(parts: list[Readers]) -> Readers:
    """All of them, one after the other."""
    return Readers(
        torch.cat([part.attended for part in parts]),
        torch.cat([part.fed for part in parts]),
        torch.cat([part.position for part in parts]),
        torch.cat([part.direction for part in parts]),
    )


TermKind = Literal["token", "position", "head", "attention_bias", "latent", "skip", "error", "ffn_bias"]


@dataclass(frozen=True)
class Term:
    """One term of a reader's sum. `index`: the head, or the latent's place in its layer's list; `source`: of a head."""

    kind: TermKind
    layer: int = -1
    index: int = -1
    source: int = -1


@dataclass(frozen=True)
class TermPlaces:
    """Where terms stand in a reader's row: token, position, then a block for each layer, lowest first.

    A block is: heads by source token, attention's constants, `most` places for latents, skip, error, the FFN's
    constants. A layer's latents at the reader's token stand in the order of the layer's list, and zeros after them.
    """

    layers: int
    heads: int
    t: int
    most: int

    @property
    def mixed(self) -> int:
        """Terms of a layer's heads."""
        return self.heads * self.t

    @property
    def block(self) -> int:
        """Terms of a layer."""
        return self.mixed + self.most + 4

    @property
    def total(self) -> int:
        """Terms of a reader."""
        return 2 + self.layers * self.block

    def term(self, frozen: Frozen, place: int, position: int) -> Term:
        """What stands at a place in the row of a reader at this position."""
        if place < 2:
            return Term("token" if place == 0 else "position")
        layer, at = divmod(place - 2, self.block)
        if at < self.mixed:
            head, source = divmod(at, self.t)
            return Term("head", layer, head, source)
        at -= self.mixed + 1
        if at < 0:
            return Term("attention_bias", layer)
        if at < self.most:
            return Term("latent", layer, int(frozen.layers[layer].latents.start[position]) + at)
        kinds: tuple[TermKind, ...] = ("skip", "error", "ffn_bias")
        return Term(kinds[at - self.most], layer)


@dataclass(frozen=True, eq=False)
class Direct:
    """The terms of b readers, a row each: its sum is direction · x[position]. Views name the parts of the rows."""

    places: TermPlaces
    position: Int[Tensor, " b"]
    values: Float[Tensor, "b terms"]

    @property
    def token(self) -> Float[Tensor, " b"]:
        """By the token's embedding."""
        return self.values[:, 0]

    @property
    def placed(self) -> Float[Tensor, " b"]:
        """By the position's embedding; 0 in a model without."""
        return self.values[:, 1]

    @property
    def heads(self) -> Float[Tensor, "b layers h t"]:
        """By each head's reading of each source token."""
        at = self.places
        return self._blocks[:, :, : at.mixed].unflatten(2, (at.heads, at.t))

    @property
    def attention_bias(self) -> Float[Tensor, "b layers"]:
        """By what attention adds whatever it reads."""
        return self._blocks[:, :, self.places.mixed]

    @property
    def latents(self) -> Float[Tensor, "b layers most"]:
        """By the latents that fire at the reader's token, in the order of the layer's list; zeros after them."""
        first = self.places.mixed + 1
        return self._blocks[:, :, first : first + self.places.most]

    @property
    def skip(self) -> Float[Tensor, "b layers"]:
        """By a coder's linear path."""
        return self._blocks[:, :, -3]

    @property
    def error(self) -> Float[Tensor, "b layers"]:
        """By what an FFN puts out beyond its coder."""
        return self._blocks[:, :, -2]

    @property
    def ffn_bias(self) -> Float[Tensor, "b layers"]:
        """By what the coder adds whatever it reads."""
        return self._blocks[:, :, -1]

    @property
    def _blocks(self) -> Float[Tensor, "b layers block"]:
        return self.values[:, 2:].unflatten(1, (self.places.layers, self.places.block))


@torch.no_grad()
def direct(frozen: Frozen, readers: Readers) -> Direct:
    """All direct terms of the readers: each row sums to direction · x[position]."""
    at, t = readers.position, int(readers.position.max()) + 1
    positions = at.unique().tolist()
    most = max((int(layer.latents.start.diff()[positions].max()) for layer in frozen.layers), default=0)
    depth = max(1, int(readers.attended.max()))
    places = TermPlaces(depth, len(frozen.layers[0].group), t, most)
    found = Direct(places, at, readers.direction.new_zeros(len(readers), places.total))
    found.token[:] = _dot(readers.direction, frozen.embedded[at])
    if frozen.placed is not None:
        found.placed[:] = _dot(readers.direction, frozen.placed[at])
    for i, layer in enumerate(frozen.layers[:depth]):
        _attended(layer, readers, found, i)
        _fed(layer, readers, found, i, positions)
    return found


def _attended(layer: FrozenLayer, readers: Readers, found: Direct, i: int) -> None:
    some = (readers.attended > i).nonzero().squeeze(1)
    if len(some):
        position, direction = readers.position[some], readers.direction[some]
        found.heads[some, i] = head_terms(layer, position, direction, found.places.t)
        found.attention_bias[some, i] = _dot(direction, layer.attention_bias[position])


def _fed(layer: FrozenLayer, readers: Readers, found: Direct, i: int, positions: list[int]) -> None:
    some = (readers.fed > i).nonzero().squeeze(1)
    if not len(some):
        return
    position, direction = readers.position[some], readers.direction[some]
    found.error[some, i] = _dot(direction, layer.error[position])
    found.ffn_bias[some, i] = _dot(direction, layer.ffn_bias[position])
    if layer.skipped is not None:
        found.skip[some, i] = _dot(direction, layer.skipped[position])
    start, latents = layer.latents.start.tolist(), found.latents
    # A layer's sources may be neurons, which stand there without a coder.
    coder, count = layer.coder, sum(start[p + 1] - start[p] for p in positions)
    many = coder is not None and count > 2 * coder.spec.latents
    at_once = _all_latents(layer, position, direction) if many else None
    for p in positions:
        here = (position == p).nonzero().squeeze(1)
        first, last = start[p], start[p + 1]
        if not len(here) or first == last:
            continue
        if at_once is None:
            terms = direction[here] @ layer.latents.written[first:last].T
        else:
            terms = at_once[here][:, layer.latents.latent[first:last]] * layer.latents.value[first:last]
        latents[some[here], i, : last - first] = terms


def _all_latents(
    layer: FrozenLayer, position: Int[Tensor, " b"], direction: Float[Tensor, "b d"]
) -> Float[Tensor, "b latents"]:
    """What a unit of each latent of the coder adds: where many fire, one product is faster than one for each token."""
    assert layer.coder is not None
    if layer.layer.ffn_out is not None and layer.ffn_out_factor is not None:
        direction = layer.layer.ffn_out.adjoint(direction, layer.ffn_out_factor[position])
    return direction @ layer.coder.W_dec.detach().T


@torch.no_grad()
def head_terms(
    layer: FrozenLayer, position: Int[Tensor, " b"], direction: Float[Tensor, "b d"], t: int
) -> Float[Tensor, "b h t"]:
    """What each head of a layer adds to direction · (the stream after it at position), by source token below t.

    mix[h, position, src] (stream[src] · u) with u = W_V[group[h]]ᵀ W_O[h] direction. A few directions are folded to u;
    of many, which would cost more than the heads' values, only the products with those are formed.
    """
    h, size, d = layer.W_O.shape
    kv, b = len(layer.W_V), len(direction)
    folded = (direction @ layer.W_O.reshape(h * size, d).T).view(b, h, size).transpose(0, 1)
    stream = layer.stream[:t]
    if b * h * (size + t) < t * size * (kv + b * h / d):
        W_V = layer.W_V if kv == h else layer.W_V[layer.group]
        read = ((folded @ W_V).reshape(h * b, d) @ stream.T).view(h, b, t)
    else:
        values = (stream @ layer.W_V.reshape(kv * size, d).T).view(t, kv, size).transpose(0, 1)
        read = folded @ (values if kv == h else values[layer.group]).mT
    return (read * layer.mix[:, position, :t]).transpose(0, 1)


def term_node(frozen: Frozen, term: Term, position: int, tokens: tuple[str, ...]) -> Node:
    """The node that a term of a reader at this position stands for; constants too stand at their token here."""
    match term.kind:
        case "token":
            return Node("token", position=position, index=int(frozen.tokens[position]), label=tokens[position])
        case "position":
            return Node("position", position=position)
        case "head":
            return Node("head", term.layer, term.source, term.index, reads=position)
        case "latent":
            latents = frozen.layers[term.layer].latents
            latent, z = int(latents.latent[term.index]), float(latents.value[term.index])
            return Node("latent", term.layer, position, latent, activation=z)
        case _:
            return Node(term.kind, term.layer, position)


def _dot(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    return (a * b).sum(1)
