"""One latent in words, at a price per word."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from plainspoken.explainers.lattice import Lattice
from plainspoken.explainers.scene import Bench
from plainspoken.explainers.selection import select
from plainspoken.explainers.wording import word_rule
from plainspoken.language.quote import count_words
from plainspoken.language.render import render
from plainspoken.language.rule import HIGHEST_LEVEL
from plainspoken.types import Explanation

_CAP_STEP = 1.2


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the explanations of a site are made from: where its latents fire, and what might be said of the text.

    Latent l fires at position[pointer[l]:pointer[l + 1]] with the values beside them (`latents.FiringTable`). `weight`:
    what a squared error of each latent does to the loss. `words_max`: the most words that one sentence may have.
    """

    pointer: Int[np.ndarray, " latents_1"]
    position: Int[np.ndarray, " firings"]
    value: Float[np.ndarray, " firings"]
    weight: Float[np.ndarray, " latents"]
    lattice: Lattice
    words_max: int

    def firings(self, latent: int) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """(position, value) of one latent."""
        found = slice(int(self.pointer[latent]), int(self.pointer[latent + 1]))
        return np.asarray(self.position[found]), np.asarray(self.value[found])

    def energy(self, latent: int) -> float:
        """All there is to explain of a latent, in loss."""
        return float(self.weight[latent]) * float(np.square(self.firings(latent)[1], dtype=np.float64).sum())


def explain_latents(evidence: Evidence, latents: Sequence[int], price: float, by: str) -> list[Explanation]:
    """The sentence of each of these latents at a price per word; `by`: the explainer's name."""
    bench = Bench(evidence.lattice)
    return [_explain(evidence, latent, price, bench, by) for latent in latents]


def _explain(evidence: Evidence, latent: int, price: float, bench: Bench, by: str) -> Explanation:
    position, value = evidence.firings(latent)
    weight = float(evidence.weight[latent])
    worth = weight * (float(value.max()) / HIGHEST_LEVEL) ** 2
    while True:
        selection = select(position, value, weight, price, bench)
        text = render(word_rule(selection, evidence.lattice.templates, worth, price))
        words = count_words(text)
        if words <= evidence.words_max or len(selection.level) == 0:
            return Explanation(latent, text, words, by)
        price *= max(_CAP_STEP, (words / evidence.words_max) ** 1.5)
