"""The rule explainer: conditions on the text that best predict a latent, as plain English within a budget of words.

No language model and no download. It sees the explain rows alone: the text, and where each latent fires.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from plainspoken.corpus.rows import require_part
from plainspoken.explainers.lattice import Template
from plainspoken.explainers.selection import Bench, select
from plainspoken.explainers.wording import word_rule
from plainspoken.language.quote import count_words
from plainspoken.language.render import SILENT, render
from plainspoken.language.rule import HIGHEST_LEVEL
from plainspoken.latents.table import FiringTable
from plainspoken.types import Explanation, Failure

NAME = "rules"

_SAMPLE = 64  # latents that the price is first searched on
_SEARCH_STEPS = 7
_PASSES = 4
_CLOSE_ENOUGH = 0.94  # of the budget: another pass over all latents would cost more than it brings
_CAP_STEP = 1.4


def explain_rules(
    table: FiringTable,
    templates: Sequence[Template],
    weight: Float[np.ndarray, " latents"],
    words: int,
    words_max: int,
    progress: Callable[[int], object] | None = None,
) -> list[Explanation | Failure]:
    """Explain every latent of a site.

    Args:
        table: the firings over the explain rows.
        templates: the conditions to choose from, over the same rows (`explainers.lattice.templates`).
        weight: what a squared error of each latent does to the loss (`latents.influence`).
        words: the mean number of words that the site's explanations may have; latents that matter more get more.
        words_max: the most words that one explanation may have.
        progress: called with the number of latents done since the last call.

    Raises LeakError for a table over rows of another part than explain.
    """
    require_part(table.rows, "explain")
    explained: dict[int, Explanation] = {}
    alive = np.flatnonzero(np.diff(table.pointer) > 0)
    explain = _Explainer(table, templates, weight, words_max)
    price = _sampled_price(explain, alive, words)
    for last_pass in (*[False] * (_PASSES - 1), True):
        explained = {}
        for latent in alive.tolist():
            explained[latent] = explain(latent, price)
            if progress is not None:
                progress(1)
        mean = float(np.mean([e.words for e in explained.values()])) if explained else 0.0
        if last_pass or not explained or words * _CLOSE_ENOUGH <= mean <= words:
            break
        price *= (mean / (words * (1 + _CLOSE_ENOUGH) / 2)) ** 1.3
    # Nothing is shorter than the sentence that says nothing: a budget below it is met as nearly as can be.
    while np.mean([e.words for e in explained.values()] or [0]) > words and any(
        e.text != SILENT for e in explained.values()
    ):
        price *= 1.1
        explained = {latent: explain(latent, price) for latent in explained}
    silent = "it never fires on the explain documents; take more of them (corpus.explain_tokens)"
    return [explained.get(i) or Failure(i, "explain", silent) for i in range(table.latents)]


class _Explainer:
    """One latent at a price per word, within the most words that a sentence may have."""

    def __init__(
        self,
        table: FiringTable,
        templates: Sequence[Template],
        weight: Float[np.ndarray, " latents"],
        words_max: int,
    ) -> None:
        self.table, self.templates, self.weight, self.words_max = table, templates, weight, words_max
        self.bench = Bench(templates)

    def __call__(self, latent: int, price: float) -> Explanation:
        position, value = self.table.latent(latent)
        weight = float(self.weight[latent])
        while True:
            selection = select(position, value, weight, price, self.bench)
            worth = weight * (float(value.max()) / HIGHEST_LEVEL) ** 2
            text = render(word_rule(selection, self.templates, worth, price))
            words = count_words(text)
            if words <= self.words_max or len(selection.level) == 0:
                return Explanation(latent, text, words, NAME)
            price *= _CAP_STEP


def _sampled_price(explain: _Explainer, alive: Int[np.ndarray, " alive"], words: int) -> float:
    """The price per word at which a sample of the latents keeps to the budget on average.

    The sample is every n-th latent in order of what there is to explain, so that few stand well for all.
    """
    if not len(alive):
        return 1.0
    energy = np.array(
        [explain.weight[i] * np.square(explain.table.latent(i)[1], dtype=np.float64).sum() for i in alive.tolist()]
    )
    order = alive[np.argsort(energy)]
    sample = order[np.linspace(0, len(order) - 1, min(_SAMPLE, len(order))).astype(int)]
    # In the units of the price: all there is to explain, if every word of the budget bought the same.
    high = max(float(energy.mean()) / max(words, 1.0), np.finfo(float).tiny)
    low = high * 1e-4
    for _ in range(_SEARCH_STEPS):
        middle = float(np.sqrt(low * high))
        if np.mean([explain(i, middle).words for i in sample.tolist()]) > words:
            low = middle
        else:
            high = middle
    return high
