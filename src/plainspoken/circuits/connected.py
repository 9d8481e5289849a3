"""What the weights alone connect with one latent: tokens, earlier and later latents, directly and through heads.

Which tokens excite a latent is told in units of its pre-activation: what the token's embedding alone makes it, less its
bias, through the whole norm before the FFN (`vocabulary.exciting`). All else, what it promotes and the latents before
and behind it, is at activation 1 with every norm's factor at 1 (`weights`, `vocabulary.unembedding`); at a prompt each
such weight is multiplied by activation, factors and, through a head, its pattern. Over texts (`OverTexts`) means of
what earlier latents do contribute stand beside it (`means`).
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.beside import Said
from plainspoken.circuits.vocabulary import ends, exciting, unembedding
from plainspoken.circuits.weights import (
    Weights,
    connections,
    decoder_vectors,
    encoder_directions,
    pullback,
    pullback_heads,
    pushforward,
    pushforward_heads,
    require_head,
    stands_between,
)
from plainspoken.errors import UsageError
from plainspoken.types import Site

Head = tuple[int, int]
"""(layer, head)."""
Say = Callable[[int, int], Said]
"""(layer, latent) to what is said of it."""
Spell = Callable[[int], str]
"""A token's number to its text, none where it has none."""


@dataclass(frozen=True)
class TokenScore:
    """A token, what it spells, and its score."""

    token: int
    spelled: str
    score: float


@dataclass(frozen=True)
class Link:
    """Another latent and the signed weight between; `head`: (layer, head) through which it goes, None: directly.

    `text`, `fidelity`: its sentence, and how well that foretells it.
    """

    layer: int
    latent: int
    weight: float
    text: str | None
    head: Head | None = None
    fidelity: float | None = None


@dataclass(frozen=True)
class MeanLink:
    """An earlier latent, its mean contribution at the tokens where the latent fires, and the weight between."""

    layer: int
    latent: int
    mean: float
    weight: float
    text: str | None
    fidelity: float | None = None


@dataclass(frozen=True)
class Compared:
    """The overlap of the largest `top` by the mean and by the pullback, with its 95 % over documents.

    `control`: the same mean with the pullbacks of other latents, averaged over those, and with bounds over those
    as well; None where there are none. Bounds are None with fewer than `overlaps.FEWEST` documents.
    """

    top: int
    share: float
    low: float | None
    high: float | None
    control: float | None
    control_low: float | None
    control_high: float | None


@dataclass(frozen=True)
class SourceLayer:
    """What latents of one earlier layer contribute on average, and how well the pullback tells which.

    `contributing`: latents whose mean is not 0 (None in files of before); `overlaps`: of no more than these.
    """

    layer: int
    latents: int
    strongest: tuple[MeanLink, ...]
    overlaps: tuple[Compared, ...]
    contributing: int | None = None


@dataclass(frozen=True)
class OverTexts:
    """What was looked at, at how many firings in how many documents, and what was found by layer.

    `controls`: the latents of the same layer, drawn among those that fire too, whose pullbacks are the control.
    """

    part: str
    rows: int
    documents: int
    tokens: int
    firings: int
    firing_documents: int
    controls: tuple[int, ...]
    layers: tuple[SourceLayer, ...]


@dataclass(frozen=True)
class Connected:
    """A latent's connections, strongest first.

    `excited`, `held`: in units of its pre-activation, the whole norm applied; all other weights are at activation 1
    with every norm's factor at 1, `promoted` and `suppressed` in units of logits.

    `text`, `fidelity`: its sentence, and how well that foretells it, by what `about` says. `sources`, `targets`:
    directly; `from_heads`, `to_heads`: through a head; `through`: the only one that was asked for. `texts`: where texts
    were looked at. `about`: what it was made of.
    """

    layer: int
    latent: int
    text: str | None
    fidelity: float | None
    excited: tuple[TokenScore, ...]
    held: tuple[TokenScore, ...]
    promoted: tuple[TokenScore, ...]
    suppressed: tuple[TokenScore, ...]
    sources: tuple[Link, ...]
    targets: tuple[Link, ...]
    from_heads: tuple[Link, ...]
    to_heads: tuple[Link, ...]
    through: Head | None = None
    texts: OverTexts | None = None
    about: dict[str, Any] = field(default_factory=dict)


@torch.no_grad()
def connected(
    weights: Weights,
    site: Site,
    latent: tuple[int, int],
    top: int,
    say: Say,
    spell: Spell,
    through: Head | None = None,
) -> Connected:
    """The `top` strongest of each kind, for a latent (layer, number) of the coder at a site.

    Raises UsageError for a layer without a transcoder, and a head that does not stand between this and another one.
    """
    layer, number = latent
    coder, at = weights.coder(layer), torch.tensor([number])
    if through is not None:
        _require_between(weights, layer, through)
    read = exciting(weights.of, site, coder.W_enc[at])
    assert read is not None, "an FFN's transcoder reads embeddings"
    excited, held = _both(read, top, spell)
    said = say(layer, number)
    promoted, suppressed = _both(unembedding(weights.of, decoder_vectors(weights, layer, at)), top, spell)
    return Connected(
        layer=layer,
        latent=number,
        text=said.text,
        fidelity=said.fidelity,
        excited=excited,
        held=held,
        promoted=promoted,
        suppressed=suppressed,
        sources=_strongest(_sources(weights, layer, number), top, say),
        targets=_strongest(_targets(weights, layer, number), top, say),
        from_heads=_strongest(_from_heads(weights, layer, number, through), top, say),
        to_heads=_strongest(_to_heads(weights, layer, number, through), top, say),
        through=through,
    )


def _both(
    scores: Float[Tensor, "1 vocabulary"], top: int, spell: Spell
) -> tuple[tuple[TokenScore, ...], tuple[TokenScore, ...]]:
    """The tokens of the highest and the lowest scores, of those that have text."""
    spelled = {i: text for i in range(scores.shape[1]) if (text := spell(i))}
    ids = torch.tensor(list(spelled), dtype=torch.long, device=scores.device)
    found = ends(scores[:, ids], top)

    def told(index: Tensor, score: Tensor) -> tuple[TokenScore, ...]:
        tokens = ids[index[0]].tolist()
        return tuple(TokenScore(t, spelled[t], s) for t, s in zip(tokens, score[0].tolist(), strict=True))

    return told(found.highest, found.highest_score), told(found.lowest, found.lowest_score)


@dataclass(frozen=True, eq=False)
class _Block:
    """Weights of all latents of a layer, by heads of a layer (`heads`: which), or directly (None)."""

    layer: int
    heads: Sequence[Head | None]
    weight: Float[Tensor, "heads latents"]


def _sources(weights: Weights, layer: int, number: int) -> Iterator[_Block]:
    for lower in weights.coders:
        if lower < layer:
            yield _Block(lower, [None], connections(weights, lower, layer, torch.tensor([number])))


def _targets(weights: Weights, layer: int, number: int) -> Iterator[_Block]:
    vector = decoder_vectors(weights, layer, torch.tensor([number]))
    for upper in weights.coders:
        if upper > layer:
            yield _Block(upper, [None], pushforward(weights, upper, vector))


def _from_heads(weights: Weights, layer: int, number: int, only: Head | None) -> Iterator[_Block]:
    direction = encoder_directions(weights, layer, torch.tensor([number]))
    for at, heads in _heads(weights, only):
        lowers = [lower for lower in weights.coders if stands_between(weights.of, lower, at, layer)]
        reads = pullback_heads(weights.of, at, direction)[0] if lowers else direction
        for lower in lowers:
            yield _Block(lower, [(at, h) for h in heads], pullback(weights, lower, reads)[heads])


def _to_heads(weights: Weights, layer: int, number: int, only: Head | None) -> Iterator[_Block]:
    vector = decoder_vectors(weights, layer, torch.tensor([number]))
    for at, heads in _heads(weights, only):
        uppers = [upper for upper in weights.coders if stands_between(weights.of, layer, at, upper)]
        writes = pushforward_heads(weights.of, at, vector)[0] if uppers else vector
        for upper in uppers:
            yield _Block(upper, [(at, h) for h in heads], pushforward(weights, upper, writes)[heads])


def _heads(weights: Weights, only: Head | None) -> Iterator[tuple[int, list[int]]]:
    """(layer, its heads), or the one that was asked for."""
    if only is not None:
        yield only[0], [only[1]]
        return
    for at, layer in enumerate(weights.of.layers):
        yield at, list(range(len(layer.heads.group)))


def _strongest(blocks: Iterator[_Block], top: int, say: Say) -> tuple[Link, ...]:
    """Of all blocks, by size."""
    found: list[tuple[float, int, int, Head | None]] = []
    for block in blocks:
        width = block.weight.shape[1]
        flat = block.weight.flatten()
        best = flat.abs().topk(min(top, len(flat))).indices
        for place, value in zip(best.tolist(), flat[best].tolist(), strict=True):
            head, latent = divmod(place, width)
            found.append((value, block.layer, latent, block.heads[head]))
    kept = heapq.nlargest(top, found, key=lambda each: abs(each[0]))
    told = ((value, layer, latent, head, say(layer, latent)) for value, layer, latent, head in kept)
    return tuple(Link(layer, latent, value, s.text, head, s.fidelity) for value, layer, latent, head, s in told)


def _require_between(weights: Weights, layer: int, head: Head) -> None:
    """Raises UsageError for a head through which the latents of a layer reach no others."""
    require_head(weights.of, *head)
    has = weights.coders
    if not any(
        stands_between(weights.of, other, head[0], layer) or stands_between(weights.of, layer, head[0], other)
        for other in has
    ):
        every = range(len(weights.of.layers))
        fit = [
            at for at in every
            if any(stands_between(weights.of, o, at, layer) or stands_between(weights.of, layer, at, o) for o in has)
        ]  # fmt: skip
        layers = ", ".join(map(str, fit)) or "none"
        raise UsageError(
            f"head {head[0]}/{head[1]} does not stand between layer {layer} and another layer with a coder (those have "
            f"one: {', '.join(map(str, has))}); heads of these layers do: {layers}"
        )
