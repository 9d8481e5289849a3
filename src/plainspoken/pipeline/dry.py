"""What a run would ask of language models, estimated before anything is sent: the stages' own code over a sample.

The stages that ask nobody (corpus, train, encode) are brought up first where they are not done: what is asked depends
on where latents fire. Then random groups of latents and rows go through explaining, scoring and simulating with a wire
that sends nothing (`llm.dry`), and what each group asks is scaled to the whole (`dry_groups`). Sentences that are not
written yet are stood in for by text of `explain.words` words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from plainspoken.config import Config
from plainspoken.errors import RunError, UsageError
from plainspoken.explainers import explainer_named
from plainspoken.language.counted import counted
from plainspoken.llm.open import CACHE_FILE, open_dry
from plainspoken.pipeline import launched
from plainspoken.pipeline.asked import service_of
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.dry_estimate import Estimate, Shown, estimates_of, prompts_of
from plainspoken.pipeline.dry_groups import are_written, placeholder, unscored_share
from plainspoken.pipeline.llms import LLM
from plainspoken.pipeline.machine import bring_up, redone, to_do
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.stage import Unit
from plainspoken.pipeline.stored import is_run_folder, stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers import scorer_named
from plainspoken.simulators import simulator_named
from plainspoken.types import Site


@dataclass(frozen=True)
class DryRun:
    """The estimates, stage by stage, and what a reader must know beside them.

    `done`: prompts of stages that are done, where they were asked for.
    """

    estimates: tuple[Estimate, ...]
    notes: tuple[str, ...]
    done: tuple[Shown, ...] = ()


def dry_run(
    config: Config,
    out: Path | str,
    *,
    target: str = "report",
    force: Sequence[str] = (),
    prompts: bool = False,
    progress: Progress = SILENT,
) -> DryRun:
    """What the run up to `target` would ask of language models, with nothing sent and nothing of it written.

    Stages before the first that asks are done for real where they are not done, and stay done; none of them is made
    anew, whatever `force` names: then what stands is gone by. `prompts`: show those of stages that are done as well.
    Raises what these stages raise, RunError for a folder of other settings, ConfigError or ModelError for a language
    model whose tokenizer is not there, UsageError for a stage that there is not, and under torchrun.
    """
    launched.require_alone("--dry-run")
    asking = [stage for stage in _asking(config) if _rests_on(target, stage)]
    anew = redone(STAGES, target, force)
    if not asking:
        return DryRun((), (f"up to {target} this run asks no language model; nothing was done",))
    words = placeholder(min(config.explain.words, config.explain.words_max))
    kept = stored_config(Path(out)) if is_run_folder(Path(out)) else None
    workplace = Workplace(
        Path(out), config, STAGES, progress, kept,
        opens=lambda llm, *_: open_dry(llm, lambda request: f"[EXPLANATION]: {words}"),
    )  # fmt: skip
    with workplace.locked():
        before = "explain" if asking[0] != "explain" else "encode"
        notes = list(_brought_up(workplace, before, redone(STAGES, before, force)))
        todo = to_do(workplace, STAGES, target, force)
        notes += _unwritten(workplace, [stage for stage in asking if todo[stage]])
        notes += _standing(workplace, {stage: todo[stage] for stage in asking if stage not in anew})
        estimates = list(_estimated(workplace, asking, todo))
        finished = [stage for stage in asking if prompts and not todo[stage]]
        done = [shown for stage in finished for shown in prompts_of(workplace, stage)]
        notes += _notes(workplace, asking, estimates)
    return DryRun(tuple(estimates), tuple(notes), tuple(done))


def _estimated(workplace: Workplace, asking: Sequence[str], todo: Mapping[str, Sequence[Unit]]) -> Iterator[Estimate]:
    """Of each stage where something is to do; then of the frontier, which explains and simulates once more a budget."""
    budgets = len(workplace.config.report.frontier) if todo.get("frontier") else 0
    whole: list[Estimate] = []
    for stage in asking:
        sites = _sites(workplace, todo[stage])
        found = list(estimates_of(workplace, stage, sites))
        yield from found
        if budgets and stage != "score":
            all_sites = len(sites) == len(workplace.sites)
            whole += found if all_sites else estimates_of(workplace, stage, workplace.sites)
    if budgets:
        share = unscored_share(workplace)  # a budget's sentences are not scored
        yield from (one.times(budgets * (share if one.stage == "simulate" else 1.0), "frontier") for one in whole)


def _standing(workplace: Workplace, todo: Mapping[str, Sequence[Unit]]) -> Iterator[str]:
    """Notes on stages that are done, and on those that were, with other sentences."""
    for stage, units in todo.items():
        if not units:
            yield f"{stage} is done, and asks nothing"
        elif all(workplace.folder(unit).manifest() is not None for unit in units):
            yield f"{stage} was done, and asks only about what has changed since: less than stands here"


def _brought_up(workplace: Workplace, before: str, anew: Sequence[str]) -> Iterator[str]:
    """Do what is not done up to a stage; `anew`: what of it is forced. Notes on what is not made anew."""
    try:
        if any(to_do(workplace, STAGES, before).values()):
            workplace.progress.say(f"dry run: what asks no language model is done first, up to {before}")
            bring_up(workplace, STAGES, before)
    except RunError as error:
        if not anew:
            raise
        raise UsageError(
            f"--dry-run makes nothing anew, and {', '.join(anew)} in {workplace.root} would be, of other settings than "
            "what stands there; estimate in another folder (--out)"
        ) from error
    if anew:
        yield f"{', '.join(anew)} would be made anew (--force); what is asked then is estimated by what stands now"


def _sites(workplace: Workplace, units: Sequence[Unit]) -> list[Site]:
    """The sites that some of the units are of."""
    return [site for site in workplace.sites if any(f"{unit.site}/".startswith(f"{site.module}/") for unit in units)]


def _all_written(workplace: Workplace) -> bool:
    return all(are_written(workplace, site.module) for site in workplace.sites)


def _unwritten(workplace: Workplace, asking: Sequence[str]) -> Iterator[str]:
    """What is not known before there are sentences."""
    gate = workplace.config.simulate.gate
    if "simulate" in asking and gate != "none" and not _all_written(workplace):
        yield (
            f"simulate is counted without its gate ({gate}), which goes by sentences that are not written yet: it "
            "will ask less; plainspoken explain writes them, then estimate again"
        )


def _asking(config: Config) -> list[str]:
    """The stages that ask a language model, in their order."""
    asks = {
        "explain": explainer_named(config.explain.explainer).needs_llm,
        "score": any(scorer_named(name).needs == "llm" for name in config.score.scorers),
        "simulate": simulator_named(config.simulate.simulator).needs_llm,
    }
    return [stage for stage, does in asks.items() if does]


def _rests_on(target: str, stage: str) -> bool:
    after = {each.name: each.after for each in STAGES}
    return target == stage or any(_rests_on(name, stage) for name in after[target])


def _notes(workplace: Workplace, asking: Sequence[str], estimates: Sequence[Estimate]) -> Iterator[str]:
    if not estimates:
        return
    yield "±: standard error of the sample. Retries are not counted"
    if first := sum(one.requests.value for one in estimates if one.section == "explain"):
        yield (
            f"explanations that come back too long are asked for once more, which is not counted: at most "
            f"{counted(ceil(first), 'request')} more, one for each that asks for an explanation"
        )
    yield "computed: prompt tokens that a prefix cache would not have, at most: the whole shares more than a sample"
    yield "answers: tokens, at most"
    folders = {service_of(workplace.config, stage).cache for stage in asking}
    files = {(Path(f).expanduser() if f else workplace.root / LLM) / CACHE_FILE for f in folders}
    if kept := sorted(str(file) for file in files if file.is_file()):
        yield f"what was answered before ({', '.join(kept)}) is not asked or paid for again; it is not taken off here"
    if "explain" in asking and len(asking) > 1 and not _all_written(workplace):
        words = workplace.config.explain.words
        yield f"sentences that are not written yet are taken to have {counted(words, 'word')} (explain.words)"
