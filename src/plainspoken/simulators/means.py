"""What a simulator is given, and what it gives: of every simulator alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from plainspoken.config import SimulateConfig
from plainspoken.language.text import Text
from plainspoken.llm.open import Llm
from plainspoken.types import Failure, Pairs, Simulation


@runtime_checkable
class Simulate(Protocol):
    """Expected levels (0-9) of the latents that have a sentence, at every token, and the sentences it could not read.

    A latent with a Failure has no entry in the simulation; nothing else about it is made up. A pair that was asked and
    not answered is missing in the simulation, and a Failure of each kind tells how many of a latent's were.
    """

    def __call__(
        self,
        sentences: Mapping[int, str],
        latents: int,
        text: Text,
        asked: Bool[np.ndarray, "row t"] | None = None,
        only: Pairs | None = None,
        progress: Callable[[int], object] | None = None,
        /,
    ) -> tuple[Simulation, list[Failure]]:
        """Simulate.

        Args:
            sentences: the explanation of each latent, by latent.
            latents: how many latents the coder has.
            text: the rows to simulate over.
            asked: the tokens that are asked about (None: all); the simulation says which they were.
            only: of these tokens, the pairs that are asked about (None: all): the others cannot fire, and are level 0.
            progress: called with the number of rows done since the last call; the last call brings it to all of them.
        """
        ...


@dataclass(frozen=True, eq=False)
class SimulateMeans:
    """What a simulator works with beside sentences and text: its settings, the run's seed, its language model.

    `say`: what is told of how it asks, where that rests on what was found of the model. `form`: is then told which of
    its forms of prompt it uses, in a word that stands for just that: levels of two forms are two simulations.
    """

    settings: SimulateConfig
    seed: int
    llm: Llm | None = None
    say: Callable[[str], object] = lambda message: None
    form: Callable[[str], object] = lambda name: None

    def needed_llm(self) -> Llm:
        """The language model, for a simulator that was registered as one that asks it."""
        assert self.llm is not None, "a simulator that needs a language model is given one"
        return self.llm
