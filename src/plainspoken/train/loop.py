"""Training: batch → loss → step → log, with checkpoints from which a killed run resumes bit for bit."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from plainspoken.activations import VectorSource, derived_generator
from plainspoken.activations.masks import NormLimits
from plainspoken.coders import Coder, CoderSpec, Units, fold_units, initialise
from plainspoken.config import TrainConfig
from plainspoken.errors import ActivationError, ConfigError
from plainspoken.train.allocation import freed_memory_kept
from plainspoken.train.batches import in_units, units_of
from plainspoken.train.checkpoint import Run, identity, load_checkpoint, save_checkpoint
from plainspoken.train.finish import Finishing, FinishText, batches, finish_schedule, finish_step
from plainspoken.train.log import TrainingLog
from plainspoken.train.objective import objective_of, schedule_of
from plainspoken.train.processes import ALONE, Processes
from plainspoken.train.schedule import Schedule
from plainspoken.train.step import FIRST_SPARSITY, Recipe, dead_latents, step

LOG_EVERY = 50
"""Steps between lines of the log."""
Phase = Literal["training", "finishing"]


@dataclass(frozen=True, eq=False)
class Training:
    """One site's training: what is trained, on what terms, in which units, and where it is written."""

    run: Run
    recipe: Recipe
    schedule: Schedule
    units: Units
    limits: NormLimits
    bos: int
    """BOS tokens of the text, none of which is trained on."""
    folder: Path
    log: TrainingLog | None
    """None where another process writes."""


def train_coders(
    source: VectorSource,
    specs: Mapping[str, CoderSpec],
    config: TrainConfig,
    folders: Mapping[str, Path],
    seed: int,
    progress: Callable[[int], object] | None = None,
    device: torch.device | str = "cpu",
    processes: Processes = ALONE,
    text: FinishText | None = None,
) -> dict[str, Coder]:
    """Coders fitted by Adam to the vectors of each of the source's sites, all in one pass over them.

    Each is in eval mode, its parameters requiring no gradient. Writes `log.jsonl` and, on the way,
    `checkpoint.safetensors` into a site's folder. Where a checkpoint of the same vectors, spec, config and seed stands
    there, training goes on from it, and weights and log come out the same bytes as without the interruption. `progress`
    is told how many more vectors were seen. processes: those that train together, each given its share of every batch
    by its source; the first of them writes. text: what `config.finish_tokens` are read from. Raises ConfigError where
    the checkpoint is of another training, CoderError where it is truncated, ActivationError where the loss is no longer
    finite.

    Protocol: arXiv 2501.18838, section 3 (FVU; Adam; linear warm-up, linear decay; gradient clipped at norm 1).
    """
    where = torch.device(device)
    trainings = {
        site: _start(source, site, specs[site], config, folders[site], seed, where, processes) for site in source.sites
    }
    steps = -(-config.tokens // config.batch)
    first = min(training.run.step for training in trainings.values())
    if config.finish_tokens and text is None:
        raise ConfigError("train.finish_tokens asks for a finishing phase, for which there is no model and no text")
    if progress is not None:
        progress(first * config.batch)
    with freed_memory_kept():
        for number in range(first, steps):
            batch = source.batch(number)
            for site, training in trainings.items():
                # Killed between two sites' checkpoints, the one whose own is newer waits for the others.
                if training.run.step == number:
                    x, y = in_units(training.units, *batch[site], where)
                    rate = training.schedule.rate(number)
                    step(training.run, x, y, training.recipe, rate)
                    _keep(training, "training", steps, rate, training.run.step * config.batch)
            if progress is not None:
                progress(config.batch)
        if text is not None:
            for site, training in trainings.items():
                phase = Finishing(text, text.sites[site], training.units, training.limits, training.recipe)
                _finish(training, phase, seed, progress)
    return {
        site: fold_units(training.run.coder, training.units).eval().requires_grad_(False)
        for site, training in trainings.items()
    }


def _start(
    source: VectorSource,
    site: str,
    spec: CoderSpec,
    config: TrainConfig,
    folder: Path,
    seed: int,
    device: torch.device,
    processes: Processes,
) -> Training:
    """A site's training at its first step, or where its checkpoint left it."""
    known = source.survey(site)
    moments = known.moments
    if (len(moments.mean_x), len(moments.mean_y)) != (spec.d_in, spec.d_out):
        raise ConfigError(
            f"activations of widths {len(moments.mean_x)} -> {len(moments.mean_y)} cannot fit {spec}; give the spec of "
            "the site that they were read at"
        )
    units = units_of(moments, config.normalise)
    objective = objective_of(config, spec, moments.variance_y / units.y_scale**2, device)
    mean_x, mean_y = (moments.mean_x - units.x_mean) / units.x_scale, (moments.mean_y - units.y_mean) / units.y_scale
    coder = initialise(spec, mean_x, mean_y, derived_generator("initialise", seed)).to(device)
    run = Run(coder, identity(source.fingerprint(site), spec, config, seed, objective.rounded))
    run.sparsity.fill_(FIRST_SPARSITY if config.sparsity is None else config.sparsity)
    load_checkpoint(folder, run)
    log = TrainingLog(folder / "log.jsonl", run.log_bytes) if processes.first else None
    recipe, schedule = Recipe(config, objective, processes), schedule_of(config, spec)
    return Training(run, recipe, schedule, units, known.limits, known.counts.bos, folder, log)


def _finish(training: Training, phase: Finishing, seed: int, progress: Callable[[int], object] | None) -> None:
    """The finishing phase of one site, from wherever the run stands in it."""
    run, config, before = training.run, training.recipe.config, training.schedule
    steps = phase.text.steps(config)
    falling = finish_schedule(config, before.peak, steps)
    done = run.step - before.steps
    examined = before.steps * config.batch + phase.text.tokens_before(done, config, seed)
    for number, rows in zip(range(done, steps), batches(phase.text, config, seed, done), strict=False):
        rate = falling.rate(number)
        finish_step(run, phase, rows, rate)
        examined += phase.text.tokens_in(rows)
        _keep(training, "finishing", before.steps + steps, rate, examined)
        if progress is not None:
            progress(-(-config.finish_tokens // steps))


def _keep(training: Training, phase: Phase, last: int, rate: float, examined: int) -> None:
    """After a step of a phase that ends with step `last`: a line of the log where one is due, and a checkpoint."""
    run, every = training.run, training.recipe.config.checkpoint_every
    if run.step % LOG_EVERY == 0 or run.step == last:
        _write_log(training, phase, rate, examined)
    due = every and run.step % every == 0 and run.step != last
    if due and training.log is not None:
        save_checkpoint(training.folder, run)


def _write_log(training: Training, phase: Phase, rate: float, examined: int) -> None:
    """A line of the means since the line before.

    `vectors_examined`: places of the order so far; `outliers_masked`: those of them whose vectors were left out;
    `bos_masked`: an epoch's.
    """
    run, config = training.run, training.recipe.config
    fvu, l0, kl, grad_norm = (run.sums / run.summed).tolist()
    if not math.isfinite(fvu + kl):
        raise ActivationError(f"the loss is {fvu + kl} at step {run.step}: lower train.lr or train.lr_scale and redo")
    record = {
        "step": run.step,
        "vectors": run.seen,
        "vectors_examined": examined,
        "outliers_masked": examined - run.seen,
        "bos_masked": training.bos,
        "fvu": fvu,
        "l0": l0,
        "grad_norm": grad_norm,
        "lr": rate,
        "dead": dead_latents(run, config).double().mean().item(),
    }
    if phase == "finishing":
        record["kl"] = kl
    if run.coder.activation.penalty is not None:
        record["sparsity"] = run.sparsity.item()
    run.sums.zero_()
    run.summed = 0
    if training.log is not None:
        training.log.write(record)
        run.log_bytes = training.log.size
