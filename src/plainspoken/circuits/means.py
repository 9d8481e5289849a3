"""Means over a corpus: what earlier latents contribute to a latent where it fires.

At each token at which latent j fires, latent i of an earlier layer contributes z_i (W_dec[i] · n), n the direction that
j reads there: the same term as in `direct`. Its mean over the tokens at which j fires is what a pullback, which knows
no text, can only guess at: W_dec[i] · n says nothing of how often i fires with j, and how strongly. How good the
guess is, `overlaps` measures. (Dunefsky et al., arXiv 2406.11944, section 4.3.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.accepted import in_dtype
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.targets import latent_targets
from plainspoken.coders import Coder
from plainspoken.corpus.rows import require_part
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import anatomy
from plainspoken.types import Rows, Site


@dataclass(frozen=True, eq=False)
class MeanAttribution:
    """What latents of layer `source` contribute to a latent of `layer` at the same token, over some documents.

    `sums[r]`: contributions summed over the tokens of document `documents[r]` (an index of the rows' keys) at which the
    latent fires, of which there are `firings[r]`; documents in which it never fires are left out. `looked_at`: tokens
    of text that were looked at in all.
    """

    layer: int
    latent: int
    source: int
    documents: Int[np.ndarray, " documents"]
    sums: Float[np.ndarray, "documents latents"]
    firings: Int[np.ndarray, " documents"]
    looked_at: int

    @property
    def mean(self) -> Float[np.ndarray, " latents"]:
        """Over the tokens at which the latent fires, each counting the same."""
        return self.sums.sum(0) / self.firings.sum()


@dataclass(frozen=True, eq=False)
class Means:
    """What was found in some rows: for each latent that was asked about its means by source layer.

    None where a latent fires nowhere in them: there is no mean, and none is made up. `fired`: all latents of the layer
    that fire somewhere. `rows`, `documents`, `tokens` (of text): how much was looked at.
    """

    of: Sequence[Mapping[int, MeanAttribution] | None]
    fired: Int[np.ndarray, " fired"]
    rows: int
    documents: int
    tokens: int


def mean_attributions(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    rows: Rows,
    layer: int,
    latents: Sequence[int],
    sources: Sequence[int],
    most_rows: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> Means:
    """Of each latent of a layer what those of source layers contribute to it, over a sample of at most so many rows.

    A row's BOS is part of the prompt, and what fires there is not counted. `progress` is told how many more rows are
    done. Raises UsageError for an unknown latent, layers without coders, or a source that does not write what the layer
    reads; LeakError for rows of the part evaluate.
    """
    require_part(rows, "fit", "explain", "calibrate")
    used = _checked(lm, coders, layer, latents, sources)
    order = np.random.default_rng([seed, 0x3EA5]).permutation(len(rows.tokens))
    some = np.sort(order[:most_rows])
    sums = [{source: _Sums() for source in sources} for _ in latents]
    fired = np.zeros(used[layer].spec.latents, bool)
    # Of half precision there is one copy, not one a row.
    sites = {site: in_dtype(c, dtype) for site, c in coders.items() if any(c is each for each in used.values())}
    for r in some.tolist():
        length = int(np.flatnonzero(rows.mask[r]).max(initial=-1)) + 1
        if length:
            frozen = freeze(lm, sites, torch.from_numpy(rows.tokens[r, :length].astype(np.int64)), dtype)
            text = torch.from_numpy(rows.mask[r, :length]).to(frozen.tokens.device)
            mine = frozen.layers[layer].latents
            fired[mine.latent[text[mine.position]].cpu().numpy()] = True
            for latent, each in zip(latents, sums, strict=True):
                for source, so_far in each.items():
                    so_far.add(int(rows.document[r]), contributions_at(frozen, layer, latent, source, text))
        if progress is not None:
            progress(1)
    tokens, documents = int(rows.mask[some].sum()), len({*rows.document[some].tolist()})
    found = [
        {s: so_far.finish(layer, latent, s, tokens) for s, so_far in each.items()} if fired[latent] else None
        for latent, each in zip(latents, sums, strict=True)
    ]
    return Means(found, np.flatnonzero(fired), len(some), documents, tokens)


class _Sums:
    """Contributions to one latent from one layer, added up by document."""

    def __init__(self) -> None:
        self._sums: dict[int, Float[np.ndarray, " latents"]] = {}
        self._firings: dict[int, int] = {}

    def add(self, document: int, found: Float[Tensor, "firings latents"]) -> None:
        if len(found):
            more = found.sum(0, dtype=torch.float64).cpu().numpy()
            self._sums[document] = self._sums.get(document, 0) + more
            self._firings[document] = self._firings.get(document, 0) + len(found)

    def finish(self, layer: int, latent: int, source: int, looked_at: int) -> MeanAttribution:
        documents = sorted(self._sums)
        sums, firings = (np.array([each[d] for d in documents]) for each in (self._sums, self._firings))
        return MeanAttribution(layer, latent, source, np.array(documents), sums, firings, looked_at)


@torch.no_grad()
def contributions_at(
    frozen: Frozen, layer: int, latent: int, source: int, text: Bool[Tensor, " t"]
) -> Float[Tensor, "firings latents"]:
    """What each latent of layer `source` contributes to the latent at each token of text at which that fires."""
    mine, lower, coder = frozen.layers[layer].latents, frozen.layers[source].latents, frozen.layers[source].coder
    assert coder is not None, "the source has a coder"
    position = mine.position[(mine.latent == latent) & text[mine.position]]
    targets = latent_targets(frozen, layer, position, torch.full_like(position, latent))
    found = targets.direction.new_zeros(len(position), coder.spec.latents)
    start = lower.start.tolist()
    for b, p in enumerate(position.tolist()):
        here = slice(start[p], start[p + 1])
        found[b, lower.latent[here]] = lower.written[here] @ targets.direction[b]
    return found


def _checked(
    lm: LanguageModel, coders: Mapping[Site, Coder], layer: int, latents: Sequence[int], sources: Sequence[int]
) -> dict[int, Coder]:
    """The coders of the layers."""
    of = anatomy(lm)
    by_layer = {of.layer_of(site.module): coder for site, coder in coders.items()}
    for each in (layer, *sources):
        if each not in by_layer:
            raise UsageError(f"layer {each} has no coder, so it has no latents: name a layer that has one")
        if each in sources and each >= layer:
            raise UsageError(f"layer {each} writes nothing that the FFN of layer {layer} reads: name a lower one")
    known = by_layer[layer].spec.latents
    unknown = next((latent for latent in latents if not 0 <= latent < known), None)
    if unknown is not None:
        raise UsageError(f"no latent {unknown} in layer {layer}: it has latents 0 to {known - 1}")
    return {each: by_layer[each] for each in (layer, *sources)}
