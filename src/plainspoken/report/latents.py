"""What a report shows of single latents: scores, sentences with text to see them on, edits, failures."""

from dataclasses import dataclass
from typing import Literal

from plainspoken.language.counted import counted
from plainspoken.report.interval import Interval

Rank = Literal["best", "median", "worst"]
Kind = Literal["strongest", "typical", "largest error"]


@dataclass(frozen=True)
class LatentScore:
    """How well one latent is simulated on text it was not explained on; None where a score is not defined.

    `rate`: firings a token, in [0, 1]. `correlation` ranks the latents.
    """

    latent: int
    rate: float
    correlation: float | None
    sensitivity: float | None
    specificity: float | None
    auprc: float | None


@dataclass(frozen=True)
class Example:
    """A stretch of text, one entry a token: the bytes it spells, its true and its simulated activation (>= 0)."""

    document: str
    kind: Kind
    pieces: tuple[bytes, ...]
    true: tuple[float, ...]
    simulated: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.pieces) == len(self.true) == len(self.simulated):
            raise ValueError(
                f"an example needs one true and one simulated value a token: {counted(len(self.pieces), 'token')}, "
                f"{len(self.true)} true, {len(self.simulated)} simulated"
            )


@dataclass(frozen=True)
class Card:
    """One latent shown whole: its sentence, how well that predicts it, and text to see it on."""

    rank: Rank
    score: LatentScore
    text: str
    words: int
    examples: tuple[Example, ...]
    edited: bool = False
    explainer: str = ""


@dataclass(frozen=True)
class Edit:
    """A sentence that a person changed. `effect`: loss after minus before, paired, nats a token; None if not measured.

    `effect_scope` "latent": of this sentence alone; "site": of all the site's edits together. `withheld`: why nothing
    may be claimed by the effect.
    """

    latent: int
    old: str
    new: str
    effect: Interval | None
    effect_scope: Literal["latent", "site"] = "latent"
    problem: str | None = None
    withheld: str | None = None


@dataclass(frozen=True)
class FailureRow:
    """What could not be done for a latent; `column` (1-based, characters) and `expected` where a sentence failed.

    `lacking`: where some answers lack, of which share of the documents and of which kind, and how many and why.
    """

    latent: int
    stage: str
    reason: str
    column: int | None = None
    expected: str | None = None
    text: str | None = None
    kind: str | None = None
    lacking: tuple[tuple[str, str], ...] = ()
