"""What an explainer is given beside the explain rows, and what is asked of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

from plainspoken.circuits.named_tokens import LatentTokens
from plainspoken.config import ExplainConfig
from plainspoken.language.text import Text
from plainspoken.latents.table import FiringTable
from plainspoken.llm.open import Llm
from plainspoken.types import Explanation, Failure, Pairs, Simulation

Hear = Callable[[Mapping[int, str], int, Text, Pairs], tuple[Simulation, list[Failure]]]
"""(sentences by latent, latents, text, the pairs asked about) to what the run's simulator makes of them."""


@dataclass(frozen=True, eq=False)
class ExplainMeans:
    """Settings, the run's seed, the language model, and what is made only where it is asked for, at one site.

    `tokens`: what the latents' weights speak of. `rows`: the coder's `encoder` or `decoder` rows, one a latent.
    `hear`: the run's simulator, for explainers that choose among sentences by what they win on explain documents that
    no sentence was written from. `lost`: told of a candidate that failed where another of its latent stands.
    """

    settings: ExplainConfig
    seed: int
    llm: Llm | None = None
    tokens: Callable[[], LatentTokens] | None = None
    rows: Callable[[str], Float[np.ndarray, "latents d"]] | None = None
    hear: Hear | None = None
    lost: Callable[[Failure], object] = lambda failure: None


Prepared = TypeVar("Prepared", contravariant=True)


@runtime_checkable
class Explain(Protocol[Prepared]):
    """Puts every latent of a site into words, or says why it could not: one entry a latent."""

    def __call__(
        self,
        table: FiringTable,
        prepared: Prepared,
        weight: Float[np.ndarray, " latents"],
        words: int,
        words_max: int,
        progress: Callable[[int], object] | None = None,
        /,
    ) -> list[Explanation | Failure]:
        """Explain.

        Args:
            table: the firings over the explain rows.
            prepared: what `Explainer.prepare` made of the same rows.
            weight: what a squared error of each latent does to the loss (`latents.influence`), nats.
            words: budget, as the mean over the site's explanations; words_max: the most that one may have.
            progress: called with the number of latents done since the last call.

        Raises LeakError for a table over rows of another part than explain.
        """
        ...
