"""What a user asks for, from Python or from the command line: a run, its scores, text from its model, a comparison."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainspoken.config import Config, ScoreConfig, load_config
from plainspoken.errors import UsageError
from plainspoken.pipeline import launched
from plainspoken.pipeline.chain import COMPARISON, STAGES
from plainspoken.pipeline.machine import bring_up, refuse_early
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.results import Comparison, Results
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace

if TYPE_CHECKING:
    from plainspoken.pipeline.dashboard import Made
    from plainspoken.pipeline.dry import DryRun
else:  # they bring torch
    DryRun = Made = Any


@dataclass(frozen=True)
class ScoreTable:
    """Per-latent scores as text, ready to be shown: for each site the rows under `columns`."""

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[tuple[str, ...], ...]]
    scorers: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict, repr=False)
    """For each site what the simulation and each scorer found, beside its control (scores.json)."""
    unexplained: Mapping[str, frozenset[int]] = field(default_factory=dict, repr=False)
    """For each site the latents without a sentence."""

    def with_sentence(self, module: str) -> tuple[tuple[str, ...], ...]:
        """A site's rows of latents that have a sentence."""
        return tuple(row for row in self.rows[module] if int(row[0]) not in self.unexplained[module])


def run(
    config: Config | None = None,
    out: Path | str | None = None,
    *,
    force: Sequence[str] = (),
    target: str = "report",
    progress: Progress = SILENT,
) -> Results | None:
    """Bring a run up to a stage (the last by default) and return what it measured; None before it has measured.

    config: None is the preset `pocket`. out: the run folder; None: `runs/PRESET`.
    force: stages to redo, with all that depends on them. What is done is skipped; what was killed goes on.
    Under torchrun the processes train together, and the first of them does all else; None in the others.
    Raises RunError when `out` holds a run of other settings, and every other error of the tree in `errors`.
    """
    config = config or load_config()
    root = Path(out) if out is not None else Path("runs") / config.preset
    workplace = Workplace(root, config, STAGES, progress)
    with _joined(workplace):
        if launched.rank() > 0:
            import_module("plainspoken.pipeline.stages.train").work_along(workplace)
            return None
        with workplace.locked():
            bring_up(workplace, STAGES, target, force)
        workplace.processes.tell(None)
    order = [stage.name for stage in STAGES]
    return Results.read(root) if order.index(target) >= order.index("evaluate") else None


def dry_run(
    config: Config | None = None,
    out: Path | str | None = None,
    *,
    force: Sequence[str] = (),
    target: str = "report",
    prompts: bool = False,
    progress: Progress = SILENT,
) -> DryRun:
    """What `run` would ask of language models, and cost, estimated on a sample before anything is sent.

    Arguments as `run` has them. Stages before the first that asks are done for real where they are not done; nothing is
    made anew. `prompts`: show a prompt of the stages that are done as well.
    """
    from plainspoken.pipeline.dry import dry_run

    config = config or load_config()
    root = out or Path("runs") / config.preset
    return dry_run(config, root, target=target, force=force, prompts=prompts, progress=progress)


@contextmanager
def _joined(workplace: Workplace) -> Iterator[None]:
    """With the other processes, where torchrun started any: they share the training."""
    if launched.world() == 1:
        yield
        return
    import torch

    from plainspoken.train.processes import processes_of_torchrun

    device = workplace.config.lm.device
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    with processes_of_torchrun(cuda) as processes:
        workplace.processes = processes
        yield


def compare_coders(
    config: Config | None = None,
    out: Path | str | None = None,
    *,
    force: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Comparison:
    """Coders of every kind and k in `config.compare`, trained on the same activations of one FFN and measured.

    config: None is the preset `pocket`. out: the folder; None: `runs/compare-PRESET`. A coder that is trained is kept:
    with another kind or k only that one is trained. Raises SiteError where the site is not one FFN, ConfigError for a k
    above the number of latents, RunError when `out` is of other settings, UsageError under torchrun.
    """
    launched.require_alone("compare-coders")
    config = config or load_config()
    root = Path(out) if out is not None else Path("runs") / f"compare-{config.preset}"
    workplace = Workplace(root, config, COMPARISON, progress)
    with workplace.locked():
        bring_up(workplace, COMPARISON, "compare", force)
    return Comparison.read(root)


def generate(
    root: Path | str,
    prompt: str = "",
    *,
    rewritten: bool = True,
    tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    device: str | None = None,
    progress: Progress = SILENT,
) -> str:
    """The prompt and what the run's model writes after it, with every site rewritten, or as the model is.

    The sentences are taken as they stand in the explanations files now: changed ones are simulated and calibrated anew.
    """
    from plainspoken.pipeline.speak import speak
    from plainspoken.simulators import require_follows

    workplace = Workplace(Path(root), stored_config(Path(root), lm__device=device), STAGES, progress)
    with workplace.locked(wait=True) if rewritten else nullcontext():
        if rewritten:
            require_follows(workplace.config.simulate.simulator)
            bring_up(workplace, STAGES, "calibrate")
        return speak(workplace, prompt, rewritten=rewritten, tokens=tokens, temperature=temperature, seed=seed)


def scores(
    root: Path | str,
    *,
    site: str | None = None,
    sort: str = "correlation",
    by: Sequence[str] = (),
    overrides: Sequence[str] = (),
    device: str | None = None,
    progress: Progress = SILENT,
) -> ScoreTable:
    """How well each latent is simulated from its sentence, on documents that nothing was calibrated on, best first by
    the column `sort`.

    by: scorers that score the sentences as well, on the same documents; none: those of the run's settings.
    What is scored is kept, and the rest of the run left as it is. overrides: of the settings `score`, such as
    `score.llm.service=openai`, and `limits`; they stay with the run.
    Raises UsageError for a site, a column or a scorer that there is not, and for overrides of other settings.
    """
    from plainspoken.pipeline.score_table import require_column, score_table

    asked, kept = _asked_to_score(Path(root), by, overrides, device)
    require_column(sort, asked.score.scorers)
    scoring = Workplace(Path(root), asked, STAGES, progress, kept)
    if asked.score.scorers:
        refuse_early(scoring, STAGES, "score")
    with scoring.locked():
        modules = [known.module for known in scoring.sites]
        if site is not None and site not in modules:
            raise UsageError(f"{site} is no site of {root}; its sites: {', '.join(modules)}")
        bring_up(scoring, STAGES, ("calibrate", "score") if asked.score.scorers else "calibrate")
        return score_table(scoring, modules if site is None else [site], sort)


def dry_scores(
    root: Path | str,
    *,
    by: Sequence[str] = (),
    overrides: Sequence[str] = (),
    prompts: bool = False,
    device: str | None = None,
    progress: Progress = SILENT,
) -> DryRun:
    """What `scores` would ask of language models, and cost, estimated on a sample before anything is sent.

    `prompts`, and what is raised: as `dry_run` and `scores` have them.
    """
    asked, _ = _asked_to_score(Path(root), by, overrides, device)
    return dry_run(asked, root, target="score", prompts=prompts, progress=progress)


def dashboards(
    root: Path | str,
    *,
    site: str | None = None,
    bands: int = 5,
    per_band: int = 3,
    window: int = 32,
    bins: int = 20,
    device: str | None = None,
    progress: Progress = SILENT,
) -> tuple[Made, ...]:
    """A page and a file of all latents of each of the run's sites (or of one), made from what the run holds now.

    per_band: examples in each of the `bands` from the weakest activations to the strongest, `window` tokens each; bins:
    of the histograms. Raises SiteError, naming the nearest, for another site, RunError where a site is not encoded.
    """
    from plainspoken.latents.dashboard import Shown
    from plainspoken.pipeline.dashboard import make_dashboards

    return make_dashboards(Path(root), site, Shown(bands, per_band, window, bins), device, progress)


def _asked_to_score(
    root: Path, by: Sequence[str], overrides: Sequence[str], device: str | None
) -> tuple[Config, Config]:
    """(settings to score with, settings that stay): who scores after the fact changes nothing of the run itself."""
    for override in overrides:
        name = override.partition("=")[0]
        if name == "score.scorers":
            raise UsageError(f"--set {override}: name scorers with --by {override.partition('=')[2] or 'NAMES'}")
        if not name.startswith(("score.", "limits.")) or name in ("score.rank_by", "score.share"):
            raise UsageError(
                f"--set {name}: scoring a run changes settings of score and limits only, and neither score.rank_by nor "
                "score.share; for others use plainspoken run"
            )
    config = stored_config(root, overrides, lm__device=device)
    if not by:
        return config, config
    score = replace(config.score, scorers=tuple(by), rank_by=ScoreConfig().rank_by)
    return replace(config, score=score), config
