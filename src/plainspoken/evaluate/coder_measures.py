"""The measures of a coder that no explanation has a part in; each is defined once, in docs/measures.md.

Two passes over the text: one that ends at the site (`reconstruct`) and gives the mean output, then the losses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.coders import Coder
from plainspoken.evaluate.conditions import Condition
from plainspoken.evaluate.losses import DocumentLosses, measure
from plainspoken.evaluate.reconstruction import Reconstruction, reconstruct
from plainspoken.evaluate.statistics import recovered, samples, with_interval
from plainspoken.lm import LanguageModel
from plainspoken.rewrite import Baseline, Constant, SiteCoder
from plainspoken.types import Rows, Site

PASSES = 5
"""How often the rows are gone through: once for the reconstruction, once for each condition."""
DENSITY_STEP = 0.25
"""Width of the density histogram's bins, in powers of ten."""


@dataclass(frozen=True, eq=False)
class MeasuredCoder:
    """A coder over some rows, by document: its reconstruction, and the model's losses under four conditions.

    original: the model as it is; spliced: the site's output from the coder, at every token; zero: the zero vector in
    its place; mean: its mean over the same tokens, for which FVU is 1.
    """

    reconstruction: Reconstruction
    original: DocumentLosses
    spliced: DocumentLosses
    zero: DocumentLosses
    mean: DocumentLosses


def measure_coder(
    lm: LanguageModel,
    site: Site,
    coder: Coder,
    rows: Rows,
    rows_per_batch: int = 16,
    progress: Callable[[int], object] | None = None,
) -> MeasuredCoder:
    """The coder measured on every token of the rows.

    `progress` is told how many more rows are done, of `PASSES` times their number. Raises ActivationError for
    activations or losses that are not finite, naming the document.
    """
    found = reconstruct(lm, site, coder, rows, progress)
    conditions = [
        Condition("original", {}),
        Condition("spliced", {site.module: Baseline("coder")}),
        Condition("zero", {site.module: Baseline("zero-output")}),
        Condition("mean", {site.module: Constant(found.mean)}),
    ]
    spliced = {site.module: SiteCoder(site, coder, found.latent_mean)}
    losses = measure(lm, rows, spliced, conditions, "all", rows_per_batch, progress)
    return MeasuredCoder(found, *losses)


class Resampled:
    """A measured coder's figures with documents drawn anew: arrays [1 + draws], the estimate itself first.

    Two coders measured on the same rows, resampled at one seed, are paired: the same documents in every draw.
    """

    def __init__(self, coder: MeasuredCoder, bootstrap: int, seed: int) -> None:
        self._coder = coder
        kept = coder.reconstruction.tokens > 0
        drawn = samples(int(kept.sum()), bootstrap, seed)
        self._counts = np.zeros((len(drawn), len(kept)))
        self._counts[:, kept] = drawn
        self._tokens = self._counts @ coder.original.tokens

    @property
    def fvu(self) -> Float[np.ndarray, " values"]:
        """Fraction of variance unexplained."""
        return self._coder.reconstruction.fvu(self._counts)

    @property
    def l0(self) -> Float[np.ndarray, " values"]:
        """Latents firing at a token."""
        return self._coder.reconstruction.l0(self._counts)

    def ce(self, losses: DocumentLosses) -> Float[np.ndarray, " values"]:
        """Cross-entropy, nats a token."""
        return self._per_token(losses.nll)

    @property
    def increase(self) -> Float[np.ndarray, " values"]:
        """Cross-entropy with the coder spliced in, minus the original's, nats a token."""
        return self.ce(self._coder.spliced) - self.ce(self._coder.original)

    @property
    def kl(self) -> Float[np.ndarray, " values"]:
        """KL(original ‖ spliced), nats a token."""
        return self._per_token(self._coder.spliced.kl)

    def recovered(self, baseline: DocumentLosses) -> Float[np.ndarray, " values"]:
        """1 - (CE spliced - CE original) / (CE baseline - CE original); NaN where the baseline does no harm."""
        return recovered(self.ce(baseline), self.ce(self._coder.original), self.ce(self._coder.spliced))

    def _per_token(self, sums: Float[np.ndarray, " documents"]) -> Float[np.ndarray, " values"]:
        # A draw of documents that are one token long each has nothing to predict.
        return np.divide(
            self._counts @ sums, self._tokens, out=np.full(len(self._tokens), np.nan), where=self._tokens > 0
        )


def coder_record(coder: MeasuredCoder, bootstrap: int, seed: int) -> dict[str, Any]:
    """All measures as plain numbers, those of means with 95 % intervals (`NAME_low`, `NAME_high`; null: undefined)."""
    drawn, found = Resampled(coder, bootstrap, seed), coder.reconstruction
    figures = {
        "fvu": drawn.fvu,
        "l0": drawn.l0,
        "ce_original": drawn.ce(coder.original),
        "ce_spliced": drawn.ce(coder.spliced),
        "ce_zero": drawn.ce(coder.zero),
        "ce_mean": drawn.ce(coder.mean),
        "increase": drawn.increase,
        "kl": drawn.kl,
        "recovered_zero": drawn.recovered(coder.zero),
        "recovered_mean": drawn.recovered(coder.mean),
    }
    record: dict[str, Any] = {}
    for name, values in figures.items():
        record |= with_interval(name, values)
    window = int(found.tokens.sum())
    return record | {
        "dead": found.dead,
        "dead_window": window,
        "density": density(found.rate, window),
        "latents": len(found.firings),
        "tokens": window,
        "predicted_tokens": int(coder.original.tokens.sum()),
        "documents": int((found.tokens > 0).sum()),
    }


def density(rate: Float[np.ndarray, " latents"], window: int) -> dict[str, Any]:
    """Latents by the common logarithm of their firing rate, those that never fire apart.

    `log10_rate`: the edges of the bins, from the power of ten below one firing in the window up to 0.
    """
    lowest = min(-1.0, np.floor(np.log10(1 / window)))
    edges = np.arange(lowest, DENSITY_STEP / 2, DENSITY_STEP)
    latents, _ = np.histogram(np.log10(rate[rate > 0]), edges)
    return {"log10_rate": edges.tolist(), "latents": latents.tolist(), "silent": int((rate == 0).sum())}
