"""The chains: every stage, in order, with what it reads. Their work is imported when it is needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from plainspoken.config import CoderConfig, Config
from plainspoken.pipeline import explanations
from plainspoken.pipeline.stage import Check, Outcome, Stage, Unit, Work

if TYPE_CHECKING:
    from plainspoken.pipeline.workplace import Workplace
else:
    Workplace = Any


def _late(module: str) -> Work:
    """A stage's work without its imports: the command line's help must not wait for torch."""

    def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
        yield from import_module(f"plainspoken.pipeline.stages.{module}").work(workplace, units)

    return work


def _late_check(module: str, name: str = "check") -> Check:
    """A stage's check without its imports."""

    def check(workplace: Workplace) -> None:
        getattr(import_module(f"plainspoken.pipeline.stages.{module}"), name)(workplace)

    return check


def _late_unread(module: str) -> Callable[[Config], tuple[str, ...]]:
    """What a stage does not read of its settings, without its imports."""

    def unread(config: Config) -> tuple[str, ...]:
        return import_module(f"plainspoken.pipeline.stages.{module}").unread(config)

    return unread


def _late_unread_at(module: str) -> Callable[[Config, str], tuple[str, ...]]:
    """What a unit of a stage does not read of its settings, without its imports."""

    def unread_at(config: Config, site: str) -> tuple[str, ...]:
        return import_module(f"plainspoken.pipeline.stages.{module}").unread_at(config, site)

    return unread_at


def _late_raised(module: str) -> Callable[[Config], int]:
    """How often a stage's version was raised for some settings alone, without its imports."""

    def raised(config: Config) -> int:
        return import_module(f"plainspoken.pipeline.stages.{module}").raised(config)

    return raised


def _late_parts(module: str) -> Callable[[Workplace], Sequence[str]]:
    """A stage's names of its units without its imports."""

    def parts(workplace: Workplace) -> Sequence[str]:
        return import_module(f"plainspoken.pipeline.stages.{module}").parts(workplace)

    return parts


def _takes_coder(config: Config) -> str | None:
    """Of a run with `coder.load`, which trains nothing."""
    return None if config.coder.load is None else f"take the coder from {config.coder.load}"


def _gated(config: Config) -> int:
    """Once where there is a gate: a simulation of before did not keep which pairs it had let through."""
    return int(config.simulate.gate != "none")


def _frontier_unread(config: Config) -> tuple[str, ...]:
    """As the stages that it goes through."""
    explain, simulate, evaluate = (_late_unread(module)(config) for module in ("explain", "simulate", "evaluate"))
    # What only the explainer does not read of the simulator's settings, the simulation does.
    return (*(name for name in explain if not name.startswith("simulate")), *simulate, *evaluate)


STAGES: tuple[Stage, ...] = (
    Stage(
        name="corpus",
        does="read the documents, split them, cut them into rows of tokens",
        version=1,
        settings=("corpus", "lm.name", "lm.dtype", "seed"),
        after=(),
        work=_late("corpus"),
        early=_late_check("corpus"),
        reaches=_late_check("corpus", "reaches"),
        needs=_late_check("corpus", "needs"),
    ),
    Stage(
        name="train",
        does="train a sparse coder at each site",
        does_here=_takes_coder,
        version=1,
        settings=("coder", "train", "seed"),
        after=("corpus",),
        work=_late("train"),
        check=_late_check("train"),
        needs=_late_check("train", "needs"),
        per_site=True,
    ),
    Stage(
        name="measure",
        does="measure the coder on text that it was not trained on",
        version=1,
        settings=("measure", "evaluate.bootstrap", "evaluate.rows_per_batch", "seed"),
        after=("corpus", "train"),
        work=_late("measure"),
        per_site=True,
        presentation=True,
    ),
    Stage(
        name="encode",
        does="note where every latent fires, and how much it matters to the model's output",
        version=1,
        settings=("seed",),
        after=("corpus", "train"),
        work=_late("encode"),
        per_site=True,
    ),
    Stage(
        name="explain",
        does="put every latent into words",
        version=2,
        settings=("explain", "simulate", "seed"),
        after=("encode",),
        work=_late("explain"),
        unread=_late_unread("explain"),
        asks=_late_check("explain", "asks"),
        early=_late_check("explain"),
        reaches=_late_check("explain", "reaches"),
        per_site=True,
        editable=(explanations.CURRENT,),
        content=explanations.content_hash,
    ),
    Stage(
        name="score",
        does="score the sentences on documents of their own, where scorers are asked for",
        version=2,
        settings=("score", "evaluate.bootstrap", "seed"),
        after=("corpus", "encode", "explain"),
        work=_late("score"),
        unread_at=_late_unread_at("score"),
        asks=_late_check("score", "asks"),
        early=_late_check("score"),
        reaches=_late_check("score", "reaches"),
        parts=_late_parts("score"),
        presentation=True,
    ),
    Stage(
        name="simulate",
        does="read the sentences back: predict where each latent fires",
        version=3,
        raised=_gated,
        settings=("simulate", "evaluate.positions", "score.share", "seed"),
        after=("corpus", "encode", "explain"),
        work=_late("simulate"),
        unread=_late_unread("simulate"),
        asks=_late_check("simulate", "asks"),
        early=_late_check("simulate"),
        reaches=_late_check("simulate", "reaches"),
        per_site=True,
        keeps=("calibrate.safetensors", "scoring.safetensors", "evaluate.safetensors"),
    ),
    Stage(
        name="calibrate",
        does="turn predicted levels into activations, and on other documents score each latent",
        version=2,
        settings=("calibrate", "evaluate.bootstrap", "seed"),
        after=("encode", "simulate"),
        work=_late("calibrate"),
        early=_late_check("calibrate"),
        per_site=True,
    ),
    Stage(
        name="evaluate",
        does="splice the rewrite into the running model and measure its loss beside every control",
        version=3,
        raised=_late_raised("evaluate"),
        settings=("evaluate", "score.rank_by", "site", "seed"),
        after=("corpus", "train", "encode", "explain", "score", "simulate", "calibrate"),
        work=_late("evaluate"),
        early=_late_check("evaluate"),
        unread=_late_unread("evaluate"),
        keeps=("losses",),
    ),
    Stage(
        name="frontier",
        does="measure loss recovered against words an explanation, where budgets are asked for",
        version=2,
        settings=("report.frontier", "explain", "simulate", "score.share", "calibrate", "evaluate", "site", "seed"),
        after=("corpus", "train", "encode", "evaluate"),
        unread=_frontier_unread,
        work=_late("frontier"),
        keeps=("points",),
        presentation=True,
    ),
    Stage(
        name="report",
        does="write the report",
        version=2,
        settings=("report", "site"),
        after=("train", "measure", "encode", "explain", "score", "simulate", "calibrate", "evaluate", "frontier"),
        work=_late("report"),
        beside=("../report.html",),
        presentation=True,
    ),
)

_VARIED = ("kind", "k", "skip")

COMPARISON: tuple[Stage, ...] = (
    STAGES[0],
    Stage(
        name="coders",
        does="train coders of every kind and k at one FFN, on the same activations",
        version=1,
        settings=(*(f"coder.{f.name}" for f in fields(CoderConfig) if f.name not in _VARIED), "train", "site", "seed"),
        after=("corpus",),
        work=_late("coders"),
        check=_late_check("coders"),
        parts=_late_parts("coders"),
    ),
    Stage(
        name="compare",
        does="measure them on the evaluate part, and draw what they cost against how sparse they are",
        version=1,
        settings=("compare", "evaluate.bootstrap", "evaluate.rows_per_batch", "site", "seed"),
        after=("corpus", "coders"),
        work=_late("compare"),
        presentation=True,
    ),
)
"""What `compare-coders` goes through. Its coders stand each in a folder of its own: one more kind or k costs one."""
