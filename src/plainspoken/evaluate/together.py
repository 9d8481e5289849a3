"""Every FFN that has a coder replaced at once: loss and divergence, beside zero- and mean-ablation of the same FFNs.

Each FFN replaced alone stands beside it: what is missing at one reaches the next, so that together they may cost more
than the sum. (Dunefsky et al., arXiv 2406.11944, section 3.2 and appendix: 11 of the 12 FFNs of GPT2-small replaced
together.)
"""

from collections.abc import Callable, Mapping, Sequence
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
from plainspoken.rewrite import Baseline, Constant, SiteCoder, Treatment
from plainspoken.types import Rows, Site

CONDITIONS = ("coders", "zero", "mean")
"""The FFN's output from its coder; the zero vector; its mean in the model as it is, over the same tokens."""


def passes(sites: int) -> int:
    """How often the rows are gone through: for each site's means, and once for every condition that is measured."""
    return sites + 1 + len(CONDITIONS) * (1 + sites * (sites > 1))


@dataclass(frozen=True, eq=False)
class Replaced:
    """The losses by document under each of `CONDITIONS` at some sites, beside those of the model as it is."""

    original: DocumentLosses
    losses: Mapping[str, DocumentLosses]

    def record(self, bootstrap: int, seed: int) -> dict[str, Any]:
        """CE and KL(original ‖ condition), nats a token, and the shares recovered, each with its 95 % interval.

        `recovered_zero`, `recovered_mean`: of the gap that the ablation makes, the share that the coders do not make;
        None where it makes none. Documents are what is drawn anew, the same ones under all conditions.
        """
        tokens = self.original.tokens
        kept = tokens > 0
        drawn = samples(int(kept.sum()), bootstrap, seed)
        counts = np.zeros((len(drawn), len(tokens)))
        counts[:, kept] = drawn
        ce = {name: _mean(counts, each.nll, tokens) for name, each in self.losses.items()}
        original = _mean(counts, self.original.nll, tokens)
        record: dict[str, Any] = dict(with_interval("ce_original", original))
        for name, each in self.losses.items():
            record |= with_interval(f"ce_{name}", ce[name])
            record |= with_interval(f"kl_{name}", _mean(counts, each.kl, tokens))
        record |= with_interval("increase", ce["coders"] - original)
        for name in ("zero", "mean"):
            record |= with_interval(f"recovered_{name}", recovered(ce[name], original, ce["coders"]))
        return record


@dataclass(frozen=True, eq=False)
class Together:
    """All sites at once, and each alone, by module path; of a single site `alone` is empty."""

    together: Replaced
    alone: Mapping[str, Replaced]

    def record(self, bootstrap: int, seed: int) -> dict[str, Any]:
        """Figures as plain numbers: the number of documents and tokens, `together` and `alone` by site."""
        tokens = self.together.original.tokens
        return {
            "documents": int((tokens > 0).sum()),
            "predicted_tokens": int(tokens.sum()),
            "together": self.together.record(bootstrap, seed),
            "alone": {module: each.record(bootstrap, seed) for module, each in self.alone.items()},
        }


def measure_together(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    rows: Rows,
    rows_per_batch: int = 16,
    progress: Callable[[int], object] | None = None,
) -> Together:
    """All coders at once and each alone, at every token of the text.

    `progress` is told how many more rows are done, of `passes(sites)` times their number. Raises ActivationError for
    activations or losses that are not finite.
    """
    found = {site: reconstruct(lm, site, coder, rows, progress) for site, coder in coders.items()}
    spliced = {site.module: SiteCoder(site, coders[site], each.latent_mean) for site, each in found.items()}
    groups = [list(coders), *([site] for site in coders if len(coders) > 1)]
    conditions = [Condition("original", {}), *(each for group in groups for each in _conditions(group, found))]
    original, *rest = measure(lm, rows, spliced, conditions, "all", rows_per_batch, progress)
    size = len(CONDITIONS)
    each = [
        Replaced(original, dict(zip(CONDITIONS, rest[i : i + size], strict=True))) for i in range(0, len(rest), size)
    ]
    return Together(each[0], {group[0].module: one for group, one in zip(groups[1:], each[1:], strict=True)})


def _conditions(group: Sequence[Site], found: Mapping[Site, Reconstruction]) -> list[Condition]:
    """In the order of `CONDITIONS`."""
    treatments: list[dict[str, Treatment]] = [
        {site.module: Baseline("coder") for site in group},
        {site.module: Baseline("zero-output") for site in group},
        {site.module: Constant(found[site].mean) for site in group},
    ]
    return [Condition(name, each) for name, each in zip(CONDITIONS, treatments, strict=True)]


def _mean(
    counts: Float[np.ndarray, "values documents"],
    sums: Float[np.ndarray, " documents"],
    tokens: Float[np.ndarray, " documents"],
) -> Float[np.ndarray, " values"]:
    total = counts @ tokens
    return np.divide(counts @ sums, total, out=np.full(len(total), np.nan), where=total > 0)
