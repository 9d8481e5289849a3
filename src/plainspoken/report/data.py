"""What a report is made from: frozen, typed, filled by the pipeline from the files of a run directory."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from plainspoken.llm.cost import Cost

Rank = Literal["best", "median", "worst"]
Kind = Literal["strongest", "typical", "largest error"]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; without bounds where one document cannot tell how sure it is.

    Raises ValueError unless the numbers are finite, and both bounds there or neither.
    """

    value: float
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval needs both bounds or neither, not {self.low}, {self.high}")
        if not all(math.isfinite(number) for number in (self.value, *self.reach)):
            raise ValueError(f"an interval needs finite numbers, not {self.value}, {self.low}, {self.high}")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Both bounds, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def reach(self) -> tuple[float, float]:
        """What a drawing must have room for: from bound to bound, or the estimate alone."""
        return self.bounds or (self.value, self.value)

    @property
    def sign(self) -> int | None:
        """1 where the whole interval is above zero, -1 below it, 0 where it touches zero; None without bounds."""
        if self.bounds is None:
            return None
        low, high = self.bounds
        return 1 if low > 0 else -1 if high < 0 else 0


@dataclass(frozen=True)
class Measured:
    """One condition measured on the evaluate documents; None where a figure is not defined or was not recorded.

    `ce`, `increase` (over `original`), `kl`: nats a token. `recovered`: against zero-latents and coder;
    `over_mean`: against mean-latents and coder. `top1`: share of tokens whose likeliest next token stays. `coverage`:
    share of the (latent, token) pairs asked about that were answered; None where nothing was asked. `withheld`: why
    nothing may be claimed by these figures; None where it may. `above_shuffled`: recovered less the shuffled control's.
    """

    site: str
    condition: str
    fraction: float | None
    order: str | None
    calibrator: str | None
    ce: Interval
    increase: Interval | None
    recovered: Interval | None
    over_mean: Interval | None
    kl: Interval | None
    top1: Interval | None
    documents: int
    tokens: int
    p_beats_zero: float | None = None
    equivalent_to_zero: bool | None = None
    coverage: float | None = None
    withheld: str | None = None
    above_shuffled: Interval | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was asked was answered."""
        return self.coverage is None or self.coverage >= 1


@dataclass(frozen=True)
class FrontierPoint:
    """Everything rewritten within a budget of words (mean over a site's latents), what was recovered, and the control.

    `shuffled`: recovered with the sentences dealt to other latents. `coverage`: as `Measured` has it.
    """

    budget: int
    words_mean: float
    recovered: Interval
    shuffled: Interval | None = None
    coverage: float | None = None


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
                f"an example needs one true and one simulated value a token: {len(self.pieces)} tokens, "
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
    """What could not be done for a latent; `column` (1-based, characters) and `expected` where a sentence failed."""

    latent: int
    stage: str
    reason: str
    column: int | None = None
    expected: str | None = None
    text: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class FailureKind:
    """How many latents a stage failed on in one way; of `simulate` other than "not read": on some tokens at least."""

    stage: str
    kind: str
    latents: int


@dataclass(frozen=True)
class Unanswered:
    """Of the (latent, token) pairs of the evaluate part that the simulator was asked about, those without an answer."""

    pairs: int
    asked: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.pairs / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class GateReport:
    """What a gate let through: (latent, token) pairs of both parts that the simulator was and was not asked about.

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
    `asked` texts were scored, of which `answered` got an answer.
    """

    scorer: str
    latents: int
    documents: int
    asked: int
    answered: int
    rows: tuple[tuple[str, tuple[Interval | None, ...]], ...]

    MEASURES: ClassVar = ("auprc", "f1", "balanced_accuracy", "correlation")


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


@dataclass(frozen=True)
class CoderReport:
    """A coder measured on held-out tokens, as docs/measures.md defines it, and how its training went.

    `ce_original`, `increase` (spliced over original), `kl`: nats a token; `dead`: share of the latents that fire at
    none of the `tokens`; `density`: latents in the bins whose edges are `log10_rate`; `training`: (vectors seen, FVU).
    """

    latents: int
    tokens: int
    fvu: Interval | None
    l0: Interval | None
    dead: float
    ce_original: Interval | None
    increase: Interval | None
    kl: Interval | None
    recovered_zero: Interval | None
    recovered_mean: Interval | None
    log10_rate: tuple[float, ...]
    density: tuple[int, ...]
    silent: int
    training: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class SiteReport:
    """All about one site, or about the joint rewrite of several (`site == "all"`: no scores, cards, edits).

    `mostly_explained`: whether so many latents have a sentence that it need not be said before all else; `not_chosen`:
    those that a sample left out; `firings`, `firings_explained`: a token, of all latents and of those with a sentence.
    `failures`: those worth a line each; `kinds` counts all of them. `discarded`: the mean probability that a language
    model's answers gave to anything but a level; None where no probabilities were read.
    """

    site: str
    words_mean: float | None
    words_max: int | None
    latents: int
    explained: int
    conditions: tuple[Measured, ...]
    frontier: tuple[FrontierPoint, ...] = ()
    scores: tuple[LatentScore, ...] = ()
    cards: tuple[Card, ...] = ()
    edits: tuple[Edit, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    coder: CoderReport | None = None
    kinds: tuple[FailureKind, ...] = ()
    unanswered: Unanswered | None = None
    discarded: float | None = None
    gate: GateReport | None = None
    scorers: tuple[ScorerReport, ...] = ()
    mostly_explained: bool = True
    not_chosen: int = 0
    firings: float | None = None
    firings_explained: float | None = None


@dataclass(frozen=True)
class Provenance:
    """Where the figures come from. `method` and `versions`: (name, value); `inputs`: (name, SHA-256)."""

    model: str
    corpus: str
    eval_corpus: str | None
    seed: int
    command: str
    method: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class ReportData:
    """A whole report. `joint` is there when several sites were also rewritten together.

    `costs`: what was asked of language models. `speakers`: None where it was not recorded.
    """

    sites: tuple[SiteReport, ...]
    joint: SiteReport | None
    provenance: Provenance
    warnings: tuple[str, ...] = field(default=())
    costs: tuple[Cost, ...] = ()
    speakers: Speakers | None = None

    def __post_init__(self) -> None:
        if not self.sites:
            raise ValueError("a report needs at least one site")
