"""A behaviour without its circuit: the latents that were found on some prompts, ablated on others.

Beside them as many random latents of the same layers that fire in about as many prompts, in several draws. (The
greater-than study of Dunefsky et al., arXiv 2406.11944, section 5.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.circuits.behaviour import Behaviour, difference
from plainspoken.circuits.contributions import Found, Unit
from plainspoken.circuits.draws import random_units
from plainspoken.circuits.keeping import ablated
from plainspoken.coders import Coder
from plainspoken.errors import UsageError
from plainspoken.evaluate.by_prompt import over_prompts
from plainspoken.evaluate.statistics import samples
from plainspoken.lm import LanguageModel
from plainspoken.types import Site


@dataclass(frozen=True, eq=False)
class Ablation:
    """Logit differences by prompt: in the model, without the circuit's latents, and without random ones."""

    latents: tuple[Unit, ...]
    drawn: tuple[tuple[Unit, ...], ...]
    original: Float[np.ndarray, " prompts"]
    without: Float[np.ndarray, " prompts"]
    random: Float[np.ndarray, "draws prompts"]

    def record(self, bootstrap: int, seed: int) -> dict[str, Any]:
        """Means over prompts with 95 % intervals. `change`: without the circuit's latents, less the model as it is.

        `change_random`: the same of random ones, the mean over draws; `draws`: each draw's; `over_random`: how much
        further the circuit's go. Intervals are over prompts; how draws differ is to be read off `draws`.
        """
        counts = samples(len(self.original), bootstrap, seed)
        change, random = self.without - self.original, self.random.mean(axis=0) - self.original
        figures = {
            "original": self.original,
            "without": self.without,
            "without_random": self.random.mean(axis=0),
            "change": change,
            "change_random": random,
            "over_random": change - random,
        }
        return {
            "prompts": len(self.original),
            "latents": len(self.latents),
            "random_latents": [len(each) for each in self.drawn],
            **over_prompts(figures, counts),
            "draws": (self.random - self.original).mean(axis=1).tolist(),
        }


def ablation(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    behaviour: Behaviour,
    latents: Sequence[Unit],
    drawn: Sequence[Sequence[Unit]],
    progress: Callable[[int], object] | None = None,
) -> Ablation:
    """Measured at these prompts; `drawn`: random latents, several draws, as `random_draws` makes them.

    `progress` is told of conditions done: one for each draw, and one for the latents.
    """
    original, found = difference(lm, behaviour), []
    for units in (latents, *drawn):
        with ablated(lm, coders, units, behaviour.begun):
            found.append(difference(lm, behaviour))
        if progress is not None:
            progress(1)
    return Ablation(tuple(latents), tuple(map(tuple, drawn)), original, found[0], np.stack(found[1:]))


def apart(first: Ablation, second: Ablation, bootstrap: int, seed: int) -> dict[str, Any]:
    """The first less the second, prompt by prompt: what is of the first alone, with 95 % intervals over prompts."""
    figures = {"original": first.original - second.original}
    for name, of_first, of_second in (
        ("change", first.without, second.without),
        ("change_random", first.random.mean(axis=0), second.random.mean(axis=0)),
    ):
        figures[name] = (of_first - first.original) - (of_second - second.original)
    figures["over_random"] = figures["change"] - figures["change_random"]
    return dict(over_prompts(figures, samples(len(first.original), bootstrap, seed)))


def random_draws(found: Found, latents: Sequence[Unit], draws: int, seed: int) -> list[list[Unit]]:
    """Several draws of random latents like these. Raises UsageError for fewer than one."""
    if draws < 1:
        raise UsageError("a control needs at least one draw of random latents: ask for one or more")
    return [random_units(found.latents.fires, latents, np.random.default_rng([seed, i])) for i in range(draws)]
