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
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.coders import Coder
from plainspoken.lm.anatomy import Anatomy
from plainspoken.types import Site

BLOCK = 2**22
"""Products held at a time: 16 MB in float32, however large the vocabulary and however many the latents."""
STEPS = 4
"""Of `wiring`: the unembedding, the embedding, sources, targets."""
ACROSS = 2**13
"""Columns taken at a time: a copy of so many is made where the model's weights are in half precision."""


@dataclass(frozen=True, eq=False)
class TokenEffects:
    """For each latent k tokens, the strongest first, and what it does to them, or they to it."""

    token: Int[np.ndarray, "latents k"]
    effect: Float[np.ndarray, "latents k"]


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
    logits = anatomy.final.unfolded(written(anatomy, site, coders[site]))
    spelled = None if pieces is None else _spelled(pieces, anatomy.W_U)
    promoted, suppressed = ranked(logits, [anatomy.W_U], k, (torch.clone, torch.neg), centred=True, kept=spelled)
    done(1)
    exciting = _exciting(anatomy, site, coders[site], k, pieces)
    done(1)
    sources = _sources(anatomy, coders, site, k)
    done(1)
    targets = _targets(anatomy, coders, site, k)
    done(1)
    return Wiring(
        promoted=TokenEffects(promoted.index, promoted.value),
        suppressed=TokenEffects(suppressed.index, suppressed.value),
        exciting=exciting,
        sites=tuple(each.module for each in coders),
        sources=sources,
        targets=targets,
    )


def _exciting(
    anatomy: Anatomy, site: Site, coder: Coder, k: int, pieces: Sequence[bytes] | None
) -> TokenEffects | None:
    """The tokens with the largest W_enc · norm(scale · W_E); without a norm where the coder reads the stream itself."""
    layer, W_E = anatomy.layer_of(site.module), anatomy.W_E
    if site.kind != "mlp" and layer is not None:
        return None
    norm = None if site.kind != "mlp" or layer is None else anatomy.layers[layer].ffn_norm

    def entering(some: Float[Tensor, "c d"]) -> Float[Tensor, "c d"]:
        x = some * anatomy.scale
        return x if norm is None else norm.whole(x)

    kept = None if pieces is None else _spelled(pieces, W_E)
    [found] = ranked(_float(coder.W_enc), [W_E], k, (torch.clone,), kept=kept, entering=entering)
    return TokenEffects(found.index, found.value)


def _spelled(pieces: Sequence[bytes], matrix: Float[Tensor, "vocabulary d"]) -> Bool[Tensor, " vocabulary"]:
    """Which rows are of a token that has text."""
    return torch.tensor([i < len(pieces) and bool(pieces[i]) for i in range(len(matrix))], device=matrix.device)


def written(anatomy: Anatomy, site: Site, coder: Coder) -> Float[Tensor, "latents d"]:
    """What each latent at 1 adds to the stream, but for a norm's factor."""
    layer = anatomy.layer_of(site.module)
    out = None if layer is None else anatomy.layers[layer].ffn_out
    W_dec = _float(coder.W_dec)
    return W_dec if out is None else out.unfolded(W_dec)


def read(anatomy: Anatomy, site: Site, coder: Coder) -> Float[Tensor, "latents d"] | None:
    """What each latent reads of the stream, but for a norm's factor; None where it reads an FFN's output instead."""
    layer, W_enc = anatomy.layer_of(site.module), _float(coder.W_enc)
    if site.kind == "mlp":
        assert layer is not None, f"{site.module} is an FFN of no layer"
        return anatomy.layers[layer].ffn_norm.folded(W_enc)
    return W_enc if layer is None else None


def places(anatomy: Anatomy, site: Site) -> tuple[int, int]:
    """(after how many layers the stream stands where the site reads, the same where it writes)."""
    layer = anatomy.layer_of(site.module)
    if layer is None:
        layer = next(i for i, each in enumerate(anatomy.layers) if each.module == site.module)
        return layer + 1, layer + 1
    return layer, layer + 1


@dataclass(frozen=True, eq=False)
class Ranked:
    """For each row k columns, best first, and the products there."""

    index: Int[np.ndarray, "n k"]
    value: Float[np.ndarray, "n k"]


def ranked(
    rows: Float[Tensor, "n d"],
    columns: Sequence[Float[Tensor, "_ d"]],
    k: int,
    by: Sequence[Callable[[Tensor], Tensor]],
    centred: bool = False,
    kept: Bool[Tensor, " columns"] | None = None,
    entering: Callable[[Tensor], Tensor] | None = None,
) -> list[Ranked]:
    """For each measure in `by` the k products row · column that are largest by it; columns count on over the matrices.

    centred: products less their mean over all columns of their matrix. kept: the columns, over all matrices, that may
    be among the k (None: all). entering: what becomes of columns before they are multiplied, some at a time; not with
    centred. Computed in blocks: what is held at a time does not grow with rows x columns.
    """
    nothing = torch.zeros(len(rows), 0, dtype=torch.long, device=rows.device)
    best = [Best(rows.new_zeros(len(rows), 0), nothing) for _ in by]
    first = 0
    for matrix in columns:
        mean = rows @ matrix.mean(0, dtype=rows.dtype) if centred else None
        for piece in matrix.split(ACROSS):
            ids = torch.arange(first, first + len(piece), device=rows.device)
            ids = ids if kept is None else ids[kept[ids]]
            some = piece.to(rows)[ids - first]
            best = _with_piece(best, rows, some if entering is None else entering(some), mean, ids, k, by)
            first += len(piece)
    return [Ranked(each.index.cpu().numpy().astype(np.int32), each.value.float().cpu().numpy()) for each in best]


@dataclass(frozen=True, eq=False)
class Best:
    """The largest so far of each row."""

    value: Float[Tensor, "n m"]
    index: Int[Tensor, "n m"]

    def with_products(
        self, products: Float[Tensor, "n c"], ids: Int[Tensor, " c"], k: int, measure: Callable[[Tensor], Tensor]
    ) -> "Best":
        """The k largest of these and of products with the columns `ids`."""
        here = measure(products).topk(min(k, products.shape[1]), dim=1).indices
        value = torch.cat([self.value, products.gather(1, here)], 1)
        index = torch.cat([self.index, ids[here]], 1)
        kept = measure(value).topk(min(k, value.shape[1]), dim=1).indices
        return Best(value.gather(1, kept), index.gather(1, kept))


def _with_piece(
    best: Sequence[Best],
    rows: Float[Tensor, "n d"],
    piece: Float[Tensor, "c d"],
    mean: Float[Tensor, " n"] | None,
    ids: Int[Tensor, " c"],
    k: int,
    by: Sequence[Callable[[Tensor], Tensor]],
) -> list[Best]:
    """Each measure's largest, with those of the rows with some more columns: a block of rows at a time."""
    found: list[list[Best]] = [[] for _ in by]
    for some in torch.arange(len(rows), device=rows.device).split(max(1, BLOCK // max(1, len(piece)))):
        products = rows[some] @ piece.T
        if mean is not None:
            products -= mean[some, None]
        for each, old, measure in zip(found, best, by, strict=True):
            each.append(Best(old.value[some], old.index[some]).with_products(products, ids, k, measure))
    return [Best(torch.cat([p.value for p in parts]), torch.cat([p.index for p in parts])) for parts in found]


def _sources(
    anatomy: Anatomy,
    coders: Mapping[Site, Coder],
    site: Site,
    k: int,
) -> Connections:
    """The latents of earlier sites that move a latent's pre-activation most."""
    reads, (at, _) = read(anatomy, site, coders[site]), places(anatomy, site)
    earlier = [s for s in coders if s != site and reads is not None and places(anatomy, s)[1] <= at]
    rows = _float(coders[site].W_enc) if reads is None else reads
    return _connections(rows, coders, earlier, [written(anatomy, s, coders[s]) for s in earlier], k)


def _targets(
    anatomy: Anatomy,
    coders: Mapping[Site, Coder],
    site: Site,
    k: int,
) -> Connections:
    """The latents of later sites whose pre-activation a latent moves most."""
    rows, (_, at) = written(anatomy, site, coders[site]), places(anatomy, site)
    reads = {s: read(anatomy, s, coders[s]) for s in coders if s != site and places(anatomy, s)[0] >= at}
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


def _float(weight: Tensor) -> Tensor:
    """Half precision as float32: sums of products over the width need it."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
