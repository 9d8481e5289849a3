"""What a survey shows of a latent: its strongest windows, then some of each band of activation.

It is made from the latent's own firings and its place in the plan alone, and nothing of it names the coder, the latent
or a sentence about it; activations are told as shares of the latent's own largest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plainspoken.evaluate.survey import Surveyed, SurveyPlan
from plainspoken.latents import FiringTable
from plainspoken.latents.examples import Example, examples
from plainspoken.latents.windows import Windows
from plainspoken.report.tokens import visible


@dataclass(frozen=True, eq=False)
class Fired:
    """A coder with its firings on the explain documents, and the bytes that each token spells."""

    about: Surveyed
    table: FiringTable
    pieces: Sequence[bytes]


@dataclass(frozen=True)
class Exhibit:
    """What is shown of a latent: lines of text under titles, firing tokens between ⟦ and ⟧.

    The digit behind a firing token is its activation in tenths of the latent's largest, rounded up, 9 at most.
    """

    item: int
    groups: tuple[tuple[str, tuple[str, ...]], ...]


def exhibit(fired: Fired, latent: int, item: int, plan: SurveyPlan) -> Exhibit:
    """What is shown of a latent as this item of the plan: its strongest windows, then some of each band."""
    generator = np.random.default_rng([plan.seed, item, 0xE5])
    windows = Windows(fired.table, plan.window)
    strongest = windows.strongest(latent, plan.per_band)
    drawn = examples(fired.table, latent, plan.per_band, plan.bands, plan.window, generator)
    largest = max(float(example.values.max()) for example in strongest)

    def lines(found: Sequence[Example]) -> tuple[str, ...]:
        return tuple(marked(example, fired.pieces, largest) for example in found)

    groups = [("strongest", lines(strongest))]
    for band in reversed(range(plan.bands)):
        place = {plan.bands - 1: ", the highest", 0: ", the lowest"}.get(band, "")
        groups.append((f"band {band + 1} of {plan.bands}{place}", lines([e for e in drawn if e.quantile == band])))
    return Exhibit(item, tuple((title, told) for title, told in groups if told))


def marked(example: Example, pieces: Sequence[bytes], largest: float) -> str:
    """A window on one line: tokens where the latent fires stand in ⟦ ⟧, with how strongly, in tenths of `largest`."""
    told = []
    for token, value in zip(example.tokens.tolist(), example.values.tolist(), strict=True):
        text = visible(pieces[token])
        told.append(f"⟦{text}⟧{min(9, int(np.ceil(10 * value / largest)))}" if value > 0 else text)
    return "".join(told)
