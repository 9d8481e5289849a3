"""Every setting: nested frozen dataclasses, strict; a field's docstring is its help text.

The room that reads a setting receives its section (or the bare value), never the whole tree. How the tree is read from
presets, files and overrides is in `plainspoken.config.load`.
"""

from dataclasses import dataclass, field
from typing import Literal

from plainspoken.config.coding import CoderConfig, CompareConfig, CorpusConfig, LmConfig, MeasureConfig, TrainConfig
from plainspoken.config.kinds import STRICT, Count, Name, Positive, PositiveFloat, Share
from plainspoken.config.speaking import ExplainConfig, LimitsConfig, ScoreConfig, SimulateConfig


@dataclass(frozen=True)
class CalibrateConfig:
    """How levels become activations."""

    __pydantic_config__ = STRICT
    calibrator: Name = "conditional_mean"
    """`none`, `linear`, `quantile` (the paper's) or `conditional_mean`."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured and how surely."""

    __pydantic_config__ = STRICT
    fractions: tuple[Share, ...] = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Shares of the latents that are rewritten; all of them (1.0) are measured in any case."""
    orders: tuple[Literal["best", "random", "mass"], ...] = ("best", "random", "mass")
    """Which latents come first: best scored, at random, or largest decoder-weighted mass."""
    draws: Positive = 5
    """Random orders that the rewrite is averaged over."""
    positions: Literal["all", "last"] = "all"
    """Rewrite every token of a row, or only its last one (the paper's way)."""
    also_calibrated: tuple[Name, ...] = ()
    """Other calibrators by which the same simulation is turned into activations and measured as well, as the conditions
    `rewritten:NAME` beside `rewritten`; what is asked of a language model stays the same."""
    keep: Literal["all", "top-k"] = "all"
    """After true and simulated latents are mixed, keep all of them or the k largest (the paper's way)."""
    bootstrap: Positive = 2000
    """Draws of documents for the 95 % intervals."""
    margin: PositiveFloat = 0.02
    """Equivalence to zero ablation means a difference in loss below this, nats/token."""
    rows_per_batch: Positive = 16
    """Rows of text in one forward pass."""


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows beyond the results."""

    __pydantic_config__ = STRICT
    cards: Positive = 12
    """Explanation cards: a third each of best, median and worst."""
    frontier: tuple[Positive, ...] = ()
    """Word budgets at which loss recovered is measured as well."""


@dataclass(frozen=True)
class Config:
    """One run: all of its settings."""

    __pydantic_config__ = STRICT
    preset: Name = "pocket"
    """The preset that these settings started from."""
    lm: LmConfig = field(default_factory=LmConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    site: Name = "gpt_neox.layers.2.mlp"
    """Where to rewrite: a module path, a glob (`model.layers.*.mlp`), or several with commas between."""
    coder: CoderConfig = field(default_factory=CoderConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    seed: Count = 0
    """The one seed: everything random derives from it."""
