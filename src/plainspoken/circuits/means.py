"""Means over a corpus: what earlier latents contribute to a latent where it fires, and how well its weights tell so.

At each token at which latent j fires, latent i of an earlier layer contributes z_i (W_dec[i] · n), n the direction that
j reads there: the same term as in `direct`. Its mean over the tokens at which j fires is what a pullback, which knows
no text, can only guess at: W_dec[i] · n says nothing of how often i fires with j, and how strongly. The overlap of the
latents that are largest by either says how good the guess is. (Dunefsky et al., arXiv 2406.11944, section 4.3, and the
note of April 2024, where the top 10, 20 and 50 of layer 2 overlap by 30, 25 and 14 % for latents of layer 8 of GPT-2.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.targets import latent_targets
from plainspoken.coders import Coder
from plainspoken.corpus.rows import require_part
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import anatomy
from plainspoken.types import Rows, Site

TOPS = (10, 20, 50)
LEVEL = 0.05
Ranking = Literal["highest", "strongest"]


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


def mean_attributions(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    rows: Rows,
    layer: int,
    latents: Sequence[int],
    source: int,
    most_rows: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> list[MeanAttribution | None]:
    """Of each latent of a layer what those of layer `source` contribute to it, over a sample of at most so many rows.

    None where a latent fires nowhere in the sample: there is no mean, and none is made up. A row's BOS is part of the
    prompt, and what fires there is not counted. `progress` is told how many more rows are done. Raises UsageError for
    an unknown latent, layers without coders, or a source that does not write what the layer reads; LeakError for rows
    of the part evaluate.
    """
    require_part(rows, "fit", "explain", "calibrate")
    used = _checked(lm, coders, layer, latents, source)
    order = np.random.default_rng([seed, 0x3EA5]).permutation(len(rows.tokens))
    some = np.sort(order[:most_rows])
    width = used[source].spec.latents
    sums: list[dict[int, Float[np.ndarray, " width"]]] = [{} for _ in latents]
    firings: list[dict[int, int]] = [{} for _ in latents]
    sites = {site: coder for site, coder in coders.items() if any(coder is each for each in used.values())}
    for r in some.tolist():
        length = int(np.flatnonzero(rows.mask[r]).max(initial=-1)) + 1
        if length:
            frozen = freeze(lm, sites, torch.from_numpy(rows.tokens[r, :length].astype(np.int64)), dtype)
            document, text = int(rows.document[r]), torch.from_numpy(rows.mask[r, :length]).to(frozen.tokens.device)
            for which, latent in enumerate(latents):
                found = contributions_at(frozen, layer, latent, source, text)
                if len(found):
                    before = sums[which].get(document, np.zeros(width))
                    sums[which][document] = before + found.sum(0, dtype=torch.float64).cpu().numpy()
                    firings[which][document] = firings[which].get(document, 0) + len(found)
        if progress is not None:
            progress(1)
    looked_at = int(rows.mask[some].sum())
    return [
        MeanAttribution(layer, latent, source, *_stacked(sums[which], firings[which]), looked_at)
        if sums[which]
        else None
        for which, latent in enumerate(latents)
    ]


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


def _stacked(
    sums: Mapping[int, Float[np.ndarray, " latents"]], firings: Mapping[int, int]
) -> tuple[Int[np.ndarray, " documents"], Float[np.ndarray, "documents latents"], Int[np.ndarray, " documents"]]:
    documents = sorted(sums)
    return np.array(documents), np.stack([sums[d] for d in documents]), np.array([firings[d] for d in documents])


def _checked(
    lm: LanguageModel, coders: Mapping[Site, Coder], layer: int, latents: Sequence[int], source: int
) -> dict[int, Coder]:
    """The coders of the two layers."""
    of = anatomy(lm)
    by_layer = {of.layer_of(site.module): coder for site, coder in coders.items()}
    for each in (layer, source):
        if each not in by_layer:
            raise UsageError(f"layer {each} has no coder, so it has no latents: name a layer that has one")
    if source >= layer:
        raise UsageError(f"layer {source} writes nothing that the FFN of layer {layer} reads: name a lower one")
    known = by_layer[layer].spec.latents
    unknown = next((latent for latent in latents if not 0 <= latent < known), None)
    if unknown is not None:
        raise UsageError(f"no latent {unknown} in layer {layer}: it has latents 0 to {known - 1}")
    return {each: by_layer[each] for each in (layer, source)}


@dataclass(frozen=True)
class Overlap:
    """Of the `top` largest latents by the mean, the share that is also among the `top` largest by the pullback.

    `low`, `high`: the central 95 % over samples of documents; None with fewer than two documents.
    """

    top: int
    share: float
    low: float | None
    high: float | None


def overlaps(
    mean: MeanAttribution,
    pullback: Float[np.ndarray, " latents"],
    seed: int,
    tops: Sequence[int] = TOPS,
    ranking: Ranking = "strongest",
    draws: int = 1000,
) -> list[Overlap]:
    """How far the largest latents by the mean are those of the pullback of the same latent to the same layer.

    `ranking`: by size in absolute terms ("strongest"), or by value ("highest": the paper's, which knows no inhibition).
    Documents are resampled, with all their tokens. A latent whose mean is 0 is none of the largest.
    """
    documents = len(mean.firings)
    weights = np.ones((1, documents))
    if documents > 1:
        drawn = np.random.default_rng([seed, 0xB007]).multinomial(documents, np.full(documents, 1 / documents), draws)
        weights = np.concatenate([weights, drawn])
    means = (weights @ mean.sums) / (weights @ mean.firings)[:, None]
    by_means, by_pullback = _ranked(means, ranking), _ranked(pullback[None], ranking)[0]
    found = []
    for top in tops:
        size = min(top, len(pullback))
        chosen = np.zeros(len(pullback), bool)
        chosen[by_pullback[:size]] = True
        first = by_means[:, :size]
        shares = (chosen[first] & (np.take_along_axis(means, first, 1) != 0)).sum(1) / size
        bounds = np.quantile(shares[1:], [LEVEL / 2, 1 - LEVEL / 2]).tolist() if documents > 1 else [None, None]
        found.append(Overlap(top, float(shares[0]), *bounds))
    return found


def _ranked(values: Float[np.ndarray, "n latents"], ranking: Ranking) -> Int[np.ndarray, "n latents"]:
    return np.argsort(-(np.abs(values) if ranking == "strongest" else values), axis=1, kind="stable")
