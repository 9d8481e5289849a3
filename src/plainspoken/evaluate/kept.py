"""A behaviour by its circuit alone: the strongest latents kept as they fire, all others at their mean.

Beside them as many neurons kept likewise, and random units, as the number kept grows. (The greater-than study of
Dunefsky et al., arXiv 2406.11944, section 5.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.circuits.behaviour import Behaviour, difference
from plainspoken.circuits.contributions import Contributions, Found, Unit
from plainspoken.circuits.draws import random_order
from plainspoken.circuits.keeping import only_latents, only_neurons
from plainspoken.coders import Coder
from plainspoken.evaluate.by_prompt import over_both, over_prompts, resampled, share_of_gap
from plainspoken.evaluate.statistics import samples, with_intervals
from plainspoken.lm import LanguageModel
from plainspoken.types import Site

ENDING = (
    "Random units are drawn of those that fire on the finding prompts: where as many are kept, or more, random ones "
    "would be the strongest again, and none are told."
)
"""Why a random line ends before the others."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Logit differences by prompt with so many units kept, and all others at their mean over the finding prompts.

    `strongest`: those that contribute most; `random`: the units that fire at the finding prompts in orders drawn at
    random, of which every beginning has as many of each layer. It ends before as many are kept as fire there: with
    those it would be the very units of `strongest`.
    """

    numbers: tuple[int, ...]
    strongest: Float[np.ndarray, "numbers prompts"]
    random: Float[np.ndarray, "draws fewer prompts"]


@dataclass(frozen=True, eq=False)
class Kept:
    """The curves of latents and of neurons, beside the model as it is and with every FFN replaced by its coder."""

    original: Float[np.ndarray, " prompts"]
    coders: Float[np.ndarray, " prompts"]
    latents: Curve
    neurons: Curve

    def record(self, bootstrap: int, seed: int) -> dict[str, Any]:
        """Of each curve at each number: the mean difference, and the share recovered, with 95 % intervals.

        Recovered: of the gap between no neuron kept (every FFN at its mean output) and the model as it is; one gap for
        latents and neurons, so that the two can be compared. `apart`: latents less neurons, where both keep as many.
        Prompts are resampled, and of random units their orders too: a single order has no bounds.
        """
        counts = samples(len(self.original), bootstrap, seed)
        floor, original, coders = (
            resampled(values, counts) for values in (self.neurons.strongest[0], self.original, self.coders)
        )
        record: dict[str, Any] = {
            "prompts": len(self.original),
            **with_intervals({"original": original, "coders": coders, "mean_ablated": floor}),
            **with_intervals({"recovered_coders": share_of_gap(floor, original, coders)}),
        }

        def point(number: int, now: Float[np.ndarray, " values"]) -> dict[str, Any]:
            share = share_of_gap(floor[: len(now)], original[: len(now)], now)
            return {"kept": number, **with_intervals({"difference": now, "recovered": share})}

        for name, curve in (("latents", self.latents), ("neurons", self.neurons)):
            by_number = curve.random.swapaxes(0, 1)
            record[name] = {
                "strongest": [
                    point(n, resampled(line, counts)) for n, line in zip(curve.numbers, curve.strongest, strict=True)
                ],
                "random": [
                    point(number, over_both(lines, counts, seed))
                    for number, lines in zip(curve.numbers, by_number, strict=False)
                ],
            }
        latents, neurons = (
            dict(zip(curve.numbers, curve.strongest, strict=True)) for curve in (self.latents, self.neurons)
        )
        record["apart"] = [
            {"kept": number, **over_prompts({"difference": latents[number] - neurons[number]}, counts)}
            for number in latents
            if number in neurons
        ]
        return record


def kept(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    behaviour: Behaviour,
    found: Found,
    draws: int,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> Kept:
    """Measured at these prompts, with the order that was found on others. `progress` is told of conditions done.

    Of latents those that never fired at the finding prompts come last in every order.
    """
    begun = behaviour.begun

    def of_latents(units: Sequence[Unit]) -> Float[np.ndarray, " prompts"]:
        with only_latents(lm, coders, units, found.latents.mean, begun):
            return difference(lm, behaviour)

    def of_neurons(units: Sequence[Unit]) -> Float[np.ndarray, " prompts"]:
        with only_neurons(lm, units, found.neurons.mean, begun):
            return difference(lm, behaviour)

    latents = _curve(of_latents, found.latents, draws, seed, progress)
    neurons = _curve(of_neurons, found.neurons, draws, seed, progress)
    return Kept(difference(lm, behaviour), latents.strongest[-1], latents, neurons)


def numbers_of(units: int) -> tuple[int, ...]:
    """0, 1, 2, 4, … and all."""
    return (0, *(2**i for i in range(units.bit_length()) if 2**i < units), units)


def kept_points(curve: Mapping[str, Any]) -> list[tuple[int, list[Mapping[str, Any] | None]]]:
    """Of a `Kept.record`, by number kept: latents, neurons, random latents, random neurons; None: there are fewer."""
    columns = [
        {point["kept"]: point for point in curve[unit][order]}
        for order in ("strongest", "random")
        for unit in ("latents", "neurons")
    ]
    every = sorted({number for column in columns for number in column})
    return [(number, [column.get(number) for column in columns]) for number in every]


def conditions_of(found: Found, draws: int) -> int:
    """How many conditions `kept` measures."""
    total = 0
    for each in (found.latents, found.neurons):
        numbers = numbers_of(len(each.everything()))
        total += len(numbers) + draws * len(_drawn_numbers(numbers, len(each.strongest())))
    return total


def _drawn_numbers(numbers: Sequence[int], firing: int) -> list[int]:
    """Those of which a random order has others than the strongest: some, and not all that fire."""
    return [number for number in numbers if 0 < number < firing]


def _curve(
    measured: Callable[[Sequence[Unit]], Float[np.ndarray, " prompts"]],
    found: Contributions,
    draws: int,
    seed: int,
    progress: Callable[[int], object] | None,
) -> Curve:
    firing, everything = found.strongest(), found.everything()
    numbers = numbers_of(len(everything))

    def along(order: Sequence[Unit], kept: Sequence[int]) -> list[Float[np.ndarray, " prompts"]]:
        lines = []
        for number in kept:
            lines.append(measured(order[:number]))
            if progress is not None:
                progress(1)
        return lines

    strongest, some = np.stack(along(everything, numbers)), _drawn_numbers(numbers, len(firing))
    orders = (random_order(firing, np.random.default_rng([seed, i])) for i in range(draws))
    random = [np.stack([strongest[0], *along(order, some)]) for order in orders]
    return Curve(numbers, strongest, np.stack(random))
