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
from plainspoken.evaluate.by_prompt import over_both, resampled
from plainspoken.evaluate.statistics import samples, with_intervals
from plainspoken.language.counted import counted
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

        `change_random`: the same of random ones, the mean over draws; `over_random`: how much further the circuit's
        go. Prompts are resampled, and draws as well where random latents are part of a figure. `draws`: each draw's
        mean, of the latents in `drawn`.
        """
        return {
            "prompts": len(self.original),
            "latents": len(self.latents),
            **_figures(self.original, self.without, self.random, bootstrap, seed),
            "draws": (self.random - self.original).mean(axis=1).tolist(),
            "drawn": [[f"{layer}/{number}" for layer, number in each] for each in self.drawn],
        }


def _figures(
    original: Float[np.ndarray, " prompts"],
    without: Float[np.ndarray, " prompts"],
    random: Float[np.ndarray, "draws prompts"],
    bootstrap: int,
    seed: int,
) -> dict[str, float | None]:
    """Every figure with its interval, from the same resampled prompts and draws."""
    counts = samples(len(original), bootstrap, seed)
    before, after = resampled(original, counts), resampled(without, counts)
    of_random = over_both(random, counts, seed)
    known = len(of_random)
    figures = {
        "original": before,
        "without": after,
        "without_random": of_random,
        "change": resampled(without - original, counts),
        "change_random": of_random - before[:known],
        "over_random": after[:known] - of_random,
    }
    return with_intervals(figures)


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
    """The first less the second, prompt by prompt and draw by draw: what is of the first alone, as `record` has it."""
    return dict(
        _figures(
            first.original - second.original,
            first.without - second.without,
            first.random - second.random,
            bootstrap,
            seed,
        )
    )


def random_draws(found: Found, latents: Sequence[Unit], draws: int, seed: int) -> list[list[Unit]]:
    """Several draws of random latents like these, as many.

    Raises UsageError for fewer than one draw, and where a layer has not as many others that fire.
    """
    if draws < 1:
        raise UsageError("a control needs at least one draw of random latents: ask for one or more")
    drawn = [random_units(found.latents.fires, latents, np.random.default_rng([seed, i])) for i in range(draws)]
    if (fewest := min(map(len, drawn))) < len(latents):
        raise UsageError(
            f"the circuit has {counted(len(latents), 'latent')}, and their layers have only "
            f"{counted(fewest, 'other')} that fire on these prompts, too few for a control of as many: ablate fewer "
            "(--top), or give more prompts"
        )
    return drawn
