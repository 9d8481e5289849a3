"""Every FFN that has a coder replaced at once: loss and divergence, beside zero- and mean-ablation of the same FFNs.

(Dunefsky et al., arXiv 2406.11944, section 3.2 and appendix: 11 of the 12 FFNs of GPT2-small replaced together.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.coders import Coder
from plainspoken.evaluate.conditions import Condition
from plainspoken.evaluate.losses import DocumentLosses, measure
from plainspoken.evaluate.reconstruction import reconstruct
from plainspoken.evaluate.statistics import recovered, samples, with_interval
from plainspoken.lm import LanguageModel
from plainspoken.rewrite import Baseline, Constant, SiteCoder, Treatment
from plainspoken.types import Rows, Site

CONDITIONS = ("original", "coders", "zero", "mean")
"""The model as it is; every FFN its coder's output; the zero vector; its mean output over the same tokens."""


@dataclass(frozen=True, eq=False)
class Together:
    """The losses by document under each of `CONDITIONS`."""

    losses: Mapping[str, DocumentLosses]

    def record(self, bootstrap: int, seed: int) -> dict[str, Any]:
        """CE and KL(original ‖ condition), nats a token, and the shares recovered, each with its 95 % interval.

        `recovered_zero`, `recovered_mean`: of the gap that the ablation makes, the share that the coders do not make.
        Documents are what is drawn anew, the same ones under all conditions.
        """
        tokens = self.losses["original"].tokens
        kept = tokens > 0
        counts = np.zeros((len(drawn := samples(int(kept.sum()), bootstrap, seed)), len(tokens)))
        counts[:, kept] = drawn
        per_token = {
            name: (_mean(counts, each.nll, tokens), _mean(counts, each.kl, tokens))
            for name, each in self.losses.items()
        }
        record: dict[str, Any] = {"documents": int(kept.sum()), "tokens": int(tokens.sum())}
        for name, (ce, kl) in per_token.items():
            record |= with_interval(f"ce_{name}", ce) | ({} if name == "original" else with_interval(f"kl_{name}", kl))
        original, coders = (per_token[name][0] for name in ("original", "coders"))
        for name in ("zero", "mean"):
            record |= with_interval(f"recovered_{name}", recovered(per_token[name][0], original, coders))
        return record


def _mean(
    counts: Float[np.ndarray, "values documents"],
    sums: Float[np.ndarray, " documents"],
    tokens: Float[np.ndarray, " documents"],
) -> Float[np.ndarray, " values"]:
    total = counts @ tokens
    return np.divide(counts @ sums, total, out=np.full(len(total), np.nan), where=total > 0)


def measure_together(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    rows: Rows,
    rows_per_batch: int = 16,
    progress: Callable[[int], object] | None = None,
) -> Together:
    """All coders at once, at every token of the text.

    `progress` is told how many more rows are done, of (sites + conditions) times their number. Raises ActivationError
    for activations or losses that are not finite.
    """
    means, spliced = {}, {}
    for site, coder in coders.items():
        found = reconstruct(lm, site, coder, rows, progress)
        means[site.module], spliced[site.module] = found.mean, SiteCoder(site, coder, found.latent_mean)
    treatments: list[dict[str, Treatment]] = [
        {},
        {module: Baseline("coder") for module in spliced},
        {module: Baseline("zero-output") for module in spliced},
        {module: Constant(mean) for module, mean in means.items()},
    ]
    conditions = [Condition(name, each) for name, each in zip(CONDITIONS, treatments, strict=True)]
    losses = measure(lm, rows, spliced, conditions, "all", rows_per_batch, progress)
    return Together(dict(zip(CONDITIONS, losses, strict=True)))
