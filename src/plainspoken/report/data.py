"""What a report is made from: frozen, typed, filled by the pipeline from the files of a run directory."""

from dataclasses import dataclass, field

from plainspoken.llm.cost import Cost
from plainspoken.report.asked import FailureKind, GateReport, ScorerReport, Speakers, Unanswered
from plainspoken.report.interval import Interval
from plainspoken.report.latents import Card, Edit, FailureRow, LatentScore


@dataclass(frozen=True)
class Measured:
    """One condition measured on the evaluate documents; None where a figure is not defined or was not recorded.

    `ce`, `increase` (over `original`), `kl`: nats a token. `recovered`: against zero-latents and coder;
    `over_mean`: against mean-latents and coder. `top1`: share of tokens whose likeliest next token stays. `coverage`:
    share of the (latent, token) pairs asked about that were answered; None where nothing was asked. `withheld`: why
    nothing may be claimed by these figures; None where it may. `above_shuffled`: recovered less the shuffled control's.
    `calibrated`: as `coverage`, of the pairs that the calibration was to learn from.
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
    calibrated: float | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was asked was answered."""
        return all(share is None or share >= 1 for share in (self.coverage, self.calibrated))


@dataclass(frozen=True)
class FrontierPoint:
    """Everything rewritten within a budget of words (mean over a site's latents), what was recovered, and the control.

    `shuffled`: recovered with the sentences dealt to other latents. `coverage`, `calibrated`, `withheld`: as `Measured`
    has them. `explained`: of `latents`, those with a sentence; None where that was not recorded.
    """

    budget: int
    words_mean: float
    recovered: Interval
    shuffled: Interval | None = None
    coverage: float | None = None
    calibrated: float | None = None
    withheld: str | None = None
    explained: int | None = None
    latents: int | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was asked was answered."""
        return all(share is None or share >= 1 for share in (self.coverage, self.calibrated))


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
    `in_prompt`: how many latents stood in one prompt of the simulator, at most.
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
    in_prompt: int = 1


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
