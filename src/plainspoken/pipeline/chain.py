"""The chain: every stage, in order, with what it reads. Their work is imported when it is needed."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

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


STAGES: tuple[Stage, ...] = (
    Stage(
        name="corpus",
        does="read the documents, split them, cut them into rows of tokens",
        version=1,
        settings=("corpus", "lm.name", "lm.dtype", "seed"),
        after=(),
        work=_late("corpus"),
        needs=_late_check("corpus", "needs"),
    ),
    Stage(
        name="train",
        does="train a sparse coder at each site",
        version=1,
        settings=("coder", "train", "seed"),
        after=("corpus",),
        work=_late("train"),
        check=_late_check("train"),
        per_site=True,
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
        settings=("explain", "seed"),
        after=("encode",),
        work=_late("explain"),
        check=_late_check("explain"),
        per_site=True,
        editable=(explanations.CURRENT,),
        content=explanations.content_hash,
    ),
    Stage(
        name="simulate",
        does="read the sentences back: predict where each latent fires",
        version=2,
        settings=("simulate",),
        after=("corpus", "explain"),
        work=_late("simulate"),
        check=_late_check("simulate"),
        per_site=True,
        keeps=("calibrate.safetensors", "evaluate.safetensors"),
    ),
    Stage(
        name="calibrate",
        does="turn predicted levels into activations, and score each latent",
        version=1,
        settings=("calibrate",),
        after=("encode", "simulate"),
        work=_late("calibrate"),
        check=_late_check("calibrate"),
        per_site=True,
    ),
    Stage(
        name="evaluate",
        does="splice the rewrite into the running model and measure its loss beside every control",
        version=2,
        settings=("evaluate", "site", "seed"),
        after=("corpus", "train", "encode", "explain", "simulate", "calibrate"),
        work=_late("evaluate"),
        keeps=("losses",),
    ),
    Stage(
        name="frontier",
        does="measure loss recovered against words an explanation, where budgets are asked for",
        version=1,
        settings=("report.frontier", "explain", "simulate", "calibrate", "evaluate", "site", "seed"),
        after=("corpus", "train", "encode", "evaluate"),
        work=_late("frontier"),
        keeps=("points",),
        presentation=True,
    ),
    Stage(
        name="report",
        does="write the report",
        version=1,
        settings=("report", "site"),
        after=("train", "encode", "explain", "simulate", "calibrate", "evaluate", "frontier"),
        work=_late("report"),
        beside=("../report.html",),
        presentation=True,
    ),
)
