"""What sources add to readers, shared out by the last head on the way, many readers and sources at once.

Before the last head anything may be passed, after it only skips. So a reader's gradient is walked down past no head,
at its own token alone; each source's vector is walked up through everything; and at each layer every head's reading of
what has come up is held against what has come down. Readers share the sources' walk, and sources the readers'.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.circuits.direct import Readers
from plainspoken.circuits.frozen import Frozen, FrozenLayer
from plainspoken.circuits.graph import Node
from plainspoken.errors import UsageError

AT_ONCE = 64
"""Sources that are walked up together, and edges that are read together: what bounds the memory, as each takes tokens x
d_model numbers."""


@dataclass(frozen=True, eq=False)
class Source:
    """What a source adds to the stream: by layer `layer`'s attention (`attended`) or FFN; layer -1: by an embedding."""

    layer: int
    attended: bool
    added: Float[Tensor, "t d"]


def source_of(frozen: Frozen, node: Node) -> Source:
    """The source that a node of an attribution graph stands for. UsageError for what is no source at this prompt."""
    position = -1 if node.position is None else node.position
    there = 0 <= position < frozen.t
    if node.layer is None:
        embedded = {"token": frozen.embedded, "position": frozen.placed}.get(node.kind)
        if embedded is not None and there:
            return Source(-1, False, _at(embedded, position))
    elif 0 <= node.layer < len(frozen.layers):
        layer = frozen.layers[node.layer]
        match node.kind:
            case "attention_bias":
                return Source(node.layer, True, layer.attention_bias)
            case "ffn_bias":
                return Source(node.layer, False, layer.ffn_bias)
            case "error" if there:
                return Source(node.layer, False, _at(layer.error, position))
            case "latent" if there:
                latents = layer.latents
                first, last = latents.start[position : position + 2].tolist()
                entry = first + int(torch.searchsorted(latents.latent[first:last], node.index or 0))
                if entry < last and int(latents.latent[entry]) == node.index:
                    added = torch.zeros_like(layer.error)
                    added[position] = latents.written[entry]
                    return Source(node.layer, False, added)
    raise UsageError(f"'{node.id}' is no source at this prompt: give the prompt and coders that the graph was made of")


def _at(vectors: Float[Tensor, "t d"], position: int) -> Float[Tensor, "t d"]:
    alone = torch.zeros_like(vectors)
    alone[position] = vectors[position]
    return alone


@torch.no_grad()
def by_last_head(
    frozen: Frozen,
    readers: Readers,
    sources: Sequence[Source],
    reader: Int[Tensor, " e"],
    source: Int[Tensor, " e"],
) -> tuple[Float[Tensor, " e"], Float[Tensor, "layers h e"]]:
    """(what passes no head, what passes each head as the last) of each edge, from `sources[source]` to a reader.

    Both, summed over layers and heads, are the edge: all that the source adds to the reader by any way through heads
    and skips, as `adjoint.rows` has it.
    """
    down = _walked_down(frozen, readers)
    past = readers.direction.new_zeros(len(reader))
    through = past.new_zeros(len(frozen.layers), len(frozen.layers[0].group), len(reader))
    for first in range(0, len(sources), AT_ONCE):
        some = sources[first : first + AT_ONCE]
        mine = ((first <= source) & (source < first + AT_ONCE)).nonzero().squeeze(1)
        edges = reader[mine], source[mine] - first
        past[mine] = _past_all(readers, down, some, *edges)
        through[:, :, mine] = _walked_up(frozen, readers, down, some, *edges)
    return past, through


@dataclass(frozen=True, eq=False)
class _Down:
    """The gradient of each reader at its token, past no head: where each layer's FFN and attention write, and below.

    It is 0 where the reader reads before that.
    """

    fed: list[Float[Tensor, "b d"]]
    attended: list[Float[Tensor, "b d"]]
    embedded: Float[Tensor, "b d"]

    def at(self, source: Source) -> Float[Tensor, "b d"]:
        if source.layer < 0:
            return self.embedded
        return (self.attended if source.attended else self.fed)[source.layer]


def _walked_down(frozen: Frozen, readers: Readers) -> _Down:
    fed: list[Tensor] = []
    attended: list[Tensor] = []
    gradient = torch.zeros_like(readers.direction)
    for i in reversed(range(len(frozen.layers))):
        layer = frozen.layers[i]
        gradient = _begun(gradient, readers, i + 1, i + 1)
        below = gradient
        if layer.W_skip is not None:
            below = gradient + (gradient @ layer.W_skip) * layer.skip_factor[readers.position, None]
        fed.append(gradient)
        attended.append(_begun(gradient if layer.layer.parallel else below, readers, i + 1, i))
        gradient = _begun(below, readers, i + 1, i)
    return _Down(fed[::-1], attended[::-1], _begun(gradient, readers, 0, 0))


def _begun(gradient: Float[Tensor, "b d"], readers: Readers, attended: int, fed: int) -> Float[Tensor, "b d"]:
    """With those readers that read the stream here."""
    here = (readers.attended == attended) & (readers.fed == fed)
    return torch.where(here[:, None], readers.direction, gradient)


def _past_all(
    readers: Readers, down: _Down, sources: Sequence[Source], reader: Int[Tensor, " e"], source: Int[Tensor, " e"]
) -> Float[Tensor, " e"]:
    found = readers.direction.new_zeros(len(reader))
    for i, each in enumerate(sources):
        mine = (source == i).nonzero().squeeze(1)
        b = reader[mine]
        found[mine] = (down.at(each)[b] * each.added[readers.position[b]]).sum(1)
    return found


def _walked_up(
    frozen: Frozen,
    readers: Readers,
    down: _Down,
    sources: Sequence[Source],
    reader: Int[Tensor, " e"],
    source: Int[Tensor, " e"],
) -> Float[Tensor, "layers h e"]:
    """Each source is walked no further than its last reader needs."""
    t = int(readers.position[reader].max()) + 1 if len(reader) else 0
    depth = int(readers.attended[reader].max()) if len(reader) else 0
    found = readers.direction.new_zeros(len(frozen.layers), len(frozen.layers[0].group), len(reader))
    x = readers.direction.new_zeros(t, len(sources), readers.direction.shape[1])
    _add(x, sources, -1, False)
    written = torch.tensor([each.layer for each in sources], device=x.device)
    last = torch.zeros_like(written).scatter_reduce(0, source, readers.attended[reader], "amax")
    for i, layer in enumerate(frozen.layers[:depth]):
        live = ((written < i) & (last > i)).nonzero().squeeze(1)
        place = torch.full_like(written, -1)
        place[live] = torch.arange(len(live), device=x.device)
        values = _values(layer, x[:, live])
        there = ((readers.attended[reader] > i) & (place[source] >= 0)).nonzero().squeeze(1)
        for some in there.split(AT_ONCE):
            b, at = reader[some], place[source[some]]
            found[i][:, some] = _read_by_heads(layer, values[:, :, at], readers.position[b], down.attended[i][b])
        if i + 1 < depth:
            _past_layer(layer, x, live, values, sources, i)
    return found


def _values(layer: FrozenLayer, x: Float[Tensor, "t n d"]) -> Float[Tensor, "kv t n d_head"]:
    """What the heads' value maps make of each source's part of the stream."""
    t, n, d = x.shape
    kv, size, _ = layer.W_V.shape
    return (x.reshape(t * n, d) @ layer.W_V.reshape(kv * size, d).T).view(t, n, kv, size).permute(2, 0, 1, 3)


def _read_by_heads(
    layer: FrozenLayer,
    values: Float[Tensor, "kv t e d_head"],
    position: Int[Tensor, " e"],
    direction: Float[Tensor, "e d"],
) -> Float[Tensor, "h e"]:
    """What each head writes at each edge's token, in the direction that its reader has there."""
    t = values.shape[1]
    h, size, d = layer.W_O.shape
    folded = (direction @ layer.W_O.reshape(h * size, d).T).view(-1, h, size).transpose(0, 1)
    by_token = torch.stack([(values[g] * folded[head]).sum(-1) for head, g in enumerate(layer.group.tolist())])
    return (by_token * layer.mix[:, position, :t].mT).sum(1)


def _past_layer(
    layer: FrozenLayer,
    x: Float[Tensor, "t s d"],
    live: Int[Tensor, " n"],
    values: Float[Tensor, "kv t n d_head"],
    sources: Sequence[Source],
    i: int,
) -> None:
    """Adds to the stream what a layer makes of it and what sources add there. `live`: those in it that are read on."""
    t, _, d = x.shape
    size = values.shape[-1]
    moved = torch.zeros_like(x)
    if n := len(live):
        mixed = layer.mix[:, :t, :t] @ values[layer.group].reshape(-1, t, n * size)
        h = len(mixed)
        flat = mixed.view(h, t, n, size).permute(1, 2, 0, 3).reshape(t * n, h * size)
        moved[:, live] = (flat @ layer.W_O.reshape(h * size, d)).view(t, n, d)
    _add(moved, sources, i, True)
    middle = x if layer.layer.parallel else x + moved
    if layer.W_skip is not None:
        moved += (middle @ layer.W_skip.T) * layer.skip_factor[:t, None, None]
    x += moved
    _add(x, sources, i, False)


def _add(x: Float[Tensor, "t s d"], sources: Sequence[Source], layer: int, attended: bool) -> None:
    for i, each in enumerate(sources):
        if (each.layer, each.attended) == (layer, attended):
            x[:, i] += each.added[: len(x)]
