"""What the weights alone say of every latent: tokens it promotes, tokens that excite it, latents before and after it.

A latent writes f = W_dec[i] into the residual stream (through the norm that Gemma 2 puts there). To the logits it adds
W_U N f of the final norm N, its factor held: less the mean over the vocabulary, for a shift of all logits changes
nothing. A token's embedding e excites it by its encoder row on norm(e), the norm before the FFN applied as it is: its
factor differs from token to token. A latent before it moves it by f' · n, n = its encoder row with that norm folded in.
The factors of the final norm and of this are left out: positive, and the same for all tokens or latents at a place,
they change no order. (Dunefsky et al., arXiv 2406.11944, section 4.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.circuits.ranked import ranked
from plainspoken.circuits.vocabulary import TokenEffects, exciting_tokens, promoted_tokens
from plainspoken.circuits.weights import places, read, summable, written
from plainspoken.coders import Coder
from plainspoken.lm.anatomy import Anatomy
from plainspoken.types import Site

STEPS = 4
"""Of `wiring`: the unembedding, the embedding, sources, targets."""


@dataclass(frozen=True, eq=False)
class Connections:
    """For each latent k others, the strongest first by magnitude: `sites[site]`'s `latent`, and the weight between."""

    site: Int[np.ndarray, "latents k"]
    latent: Int[np.ndarray, "latents k"]
    weight: Float[np.ndarray, "latents k"]


@dataclass(frozen=True, eq=False)
class Wiring:
    """What the weights say of the latents of one site.

    `exciting`: the tokens whose embedding alone, through the norm, excites a latent most; None where the coder does not
    read the stream (an SAE at an FFN's output). `sites`: the modules that `sources` (latents whose output it reads) and
    `targets` (those that read its output) index.
    """

    promoted: TokenEffects
    suppressed: TokenEffects
    exciting: TokenEffects | None
    sites: tuple[str, ...]
    sources: Connections
    targets: Connections


@torch.no_grad()
def wiring(
    anatomy: Anatomy,
    coders: Mapping[Site, Coder],
    site: Site,
    k: int = 10,
    progress: Callable[[int], object] | None = None,
    pieces: Sequence[bytes] | None = None,
) -> Wiring:
    """What the weights say of the latents at `site`, beside the coders of the other sites.

    `k`: tokens, and sources and targets, that are kept of each latent; fewer where there are fewer. `progress` is told
    of each of `STEPS` steps that is done. `pieces`: what tokens spell, by id: those without text are left out.
    """
    done = progress or (lambda more: None)
    promoted, suppressed = promoted_tokens(anatomy, written(anatomy, site, coders[site].W_dec), k, pieces)
    done(1)
    exciting = exciting_tokens(anatomy, site, coders[site].W_enc, k, pieces)
    done(1)
    sources = _sources(anatomy, coders, site, k)
    done(1)
    targets = _targets(anatomy, coders, site, k)
    done(1)
    return Wiring(
        promoted=promoted,
        suppressed=suppressed,
        exciting=exciting,
        sites=tuple(each.module for each in coders),
        sources=sources,
        targets=targets,
    )


def _sources(anatomy: Anatomy, coders: Mapping[Site, Coder], site: Site, k: int) -> Connections:
    """The latents of earlier sites that move a latent's pre-activation most."""
    reads, (at, _) = read(anatomy, site, coders[site].W_enc), places(anatomy, site)
    earlier = [s for s in coders if s != site and reads is not None and places(anatomy, s)[1] <= at]
    rows = summable(coders[site].W_enc) if reads is None else reads
    return _connections(rows, coders, earlier, [written(anatomy, s, coders[s].W_dec) for s in earlier], k)


def _targets(anatomy: Anatomy, coders: Mapping[Site, Coder], site: Site, k: int) -> Connections:
    """The latents of later sites whose pre-activation a latent moves most."""
    rows, (_, at) = written(anatomy, site, coders[site].W_dec), places(anatomy, site)
    reads = {s: read(anatomy, s, coders[s].W_enc) for s in coders if s != site and places(anatomy, s)[0] >= at}
    later = {s: row for s, row in reads.items() if row is not None}
    return _connections(rows, coders, list(later), list(later.values()), k)


def _connections(
    rows: Float[Tensor, "latents d"],
    coders: Mapping[Site, Coder],
    others: Sequence[Site],
    columns: Sequence[Float[Tensor, "_ d"]],
    k: int,
) -> Connections:
    [found] = ranked(rows, columns, k, (torch.abs,))
    starts = np.cumsum([0, *(len(column) for column in columns)])
    which = np.searchsorted(starts, found.index, side="right") - 1
    sites = list(coders)
    places_of = np.array([sites.index(other) for other in others] or [0], np.int32)
    latent = (found.index - starts[which]).astype(np.int32)
    return Connections(places_of[which].astype(np.int32), latent, found.value)
