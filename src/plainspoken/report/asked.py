"""What a report tells of those who wrote, read back and scored the sentences, and of what got no answer."""

from dataclasses import dataclass
from typing import ClassVar

from plainspoken.report.interval import Interval


@dataclass(frozen=True)
class FailureKind:
    """How many latents a stage failed on in one way; of `simulate` other than "not read": on some tokens at least."""

    stage: str
    kind: str
    latents: int


@dataclass(frozen=True)
class Unanswered:
    """Of the (latent, token) pairs of the evaluate part that the simulator was asked about, those without an answer.

    `kinds`: of how many latents, by what was the matter; none where that was not recorded.
    """

    pairs: int
    asked: int
    kinds: tuple[FailureKind, ...] = ()

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.pairs / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class GateReport:
    """What a gate let through: (latent, token) pairs of all three shares that the simulator was and was not asked of.

    `recall` of the true firings and `mass_recall` of their decoder-weighted mass, on `documents` that did not choose
    it (None: nothing fires there); `target`: what both were to be. `open`: of `latents`, those that pass everywhere.
    `tightened`: how many gates that kept less there were chosen before, and not used.
    """

    kind: str
    target: float
    recall: Interval | None
    mass_recall: Interval | None
    passed: int
    dropped: int
    latents: int
    open: int
    documents: int
    tightened: int = 0


@dataclass(frozen=True)
class ScorerReport:
    """A site's means by one scorer, a column a measure of `MEASURES`; None where one is not defined.

    `rows`: of the latents' own sentences; where there is a control, of another latent's, and how far the own are above.
    `asked` texts were scored (of the simulation: pairs of a latent and a token), of which `answered` got an answer.
    """

    scorer: str
    latents: int
    documents: int
    asked: int
    answered: int
    rows: tuple[tuple[str, tuple[Interval | None, ...]], ...]

    MEASURES: ClassVar = ("auprc", "f1", "balanced_accuracy", "correlation")

    @property
    def example(self) -> str:
        """What was scored: one of them."""
        return "(latent, token) pair" if self.scorer == "simulation" else "text"


@dataclass(frozen=True)
class Speaker:
    """Who explains or simulates: its name, and the language model that it asks with where that is (None: none)."""

    name: str
    model: str | None = None
    where: str | None = None

    def __str__(self) -> str:
        told = ", ".join(part for part in (self.model, self.where) if part)
        return f"{self.name} ({told})" if told else self.name


@dataclass(frozen=True)
class Speakers:
    """Who wrote the sentences and who read them back. `stand_in`: the models asked are too small to do it well."""

    explainer: Speaker
    simulator: Speaker
    stand_in: bool = False

    @property
    def ask(self) -> bool:
        """Whether any of them asks a language model."""
        return self.explainer.model is not None or self.simulator.model is not None
