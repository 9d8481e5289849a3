"""Training: batch → loss → step → log, with checkpoints from which a killed run resumes bit for bit."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from plainspoken.activations import ActivationStore
from plainspoken.coders import ACTIVATIONS, Coder, CoderSpec, fold_units, initialise
from plainspoken.coders.bfloat16 import pays
from plainspoken.config import TrainConfig
from plainspoken.errors import ActivationError, ConfigError
from plainspoken.train.allocation import freed_memory_kept
from plainspoken.train.batches import FitInUnits, units_of
from plainspoken.train.checkpoint import Run, identity, load_checkpoint, save_checkpoint
from plainspoken.train.log import TrainingLog
from plainspoken.train.losses import Objective
from plainspoken.train.order import EpochOrder, derived_generator
from plainspoken.train.processes import Processes
from plainspoken.train.schedule import PAPER_WIDTH, Schedule, base_rate
from plainspoken.train.step import dead_latents, step


def train_coder(
    fit: ActivationStore,
    spec: CoderSpec,
    config: TrainConfig,
    folder: Path,
    seed: int,
    progress: Callable[[int], object] | None = None,
    device: torch.device | str = "cpu",
    processes: Processes = Processes(),  # noqa: B008
) -> Coder:
    """A coder fitted to the store by Adam on FVU, in eval mode, its parameters requiring no gradient.

    Writes `log.jsonl` and, on the way, `checkpoint.safetensors` into the folder. Where a checkpoint of the same fit,
    spec, config and seed stands there, training goes on from it, and weights and log come out the same bytes as
    without the interruption. `progress` is told how many more vectors were seen. Raises ConfigError where the
    checkpoint is of another training, CoderError where it is truncated, ActivationError where the loss is no longer
    finite.

    Protocol: arXiv 2501.18838, section 3 (FVU; Adam; linear warm-up, linear decay; gradient clipped at norm 1).
    """
    if (fit.x.shape[1], fit.y.shape[1]) != (spec.d_in, spec.d_out):
        raise ConfigError(
            f"activations of widths {fit.x.shape[1]} -> {fit.y.shape[1]} cannot fit {spec}; give the spec of the site "
            "that they were read at"
        )
    data = FitInUnits(fit, units_of(fit, config), torch.device(device))
    order = EpochOrder(len(fit), seed)
    schedule = schedule_of(config, spec)
    run = _start(data, spec, config, folder, seed)
    objective = objective_of(config, spec, data.variance, data.device)
    log = TrainingLog(folder / "log.jsonl", run.log_bytes)
    if progress is not None:
        progress(run.step * config.batch)
    with freed_memory_kept():
        while run.step < schedule.steps:
            x, y = data.batch(order.between(run.step * config.batch, (run.step + 1) * config.batch))
            step(run, x, y, objective, config, schedule.rate(run.step), processes)
            if run.step % LOG_EVERY == 0 or run.step == schedule.steps:
                _write_log(run, log, schedule, config)
            if config.checkpoint_every and run.step % config.checkpoint_every == 0 and run.step < schedule.steps:
                save_checkpoint(folder, run)
            if progress is not None:
                progress(config.batch)
    return fold_units(run.coder, data.units).eval().requires_grad_(False)


def objective_of(config: TrainConfig, spec: CoderSpec, variance: float, device: torch.device) -> Objective:
    """The terms that a configuration asks for. Raises ConfigError where they do not go with the coder."""
    if config.multi_topk and spec.activation != "topk":
        raise ConfigError(f"train.multi_topk is of topk coders, but coder.activation is {spec.activation}")
    ends = (*config.prefixes, spec.latents)
    if config.prefixes and not all(low < high for low, high in pairwise(ends)):
        raise ConfigError(
            f"train.prefixes must ascend and stay below coder.latents = {spec.latents}, not {config.prefixes}"
        )
    if config.prefixes and ACTIVATIONS[spec.activation].by == "threshold":
        raise ConfigError(
            f"train.prefixes are of topk and batch_topk coders, but coder.activation is {spec.activation}"
        )
    rounded = config.precision == "bfloat16" or (config.precision == "auto" and pays(device, spec.latents, spec.d_in))
    return Objective(variance, config.prefixes, config.multi_topk, config.aux_k, rounded)


def schedule_of(config: TrainConfig, spec: CoderSpec) -> Schedule:
    """The schedule a configuration asks for: `tokens` vectors in steps of `batch`, rounded up."""
    width = spec.d_in if config.normalise else PAPER_WIDTH
    peak = config.lr if config.lr is not None else base_rate(spec.latents, width) * config.lr_scale
    return Schedule(-(-config.tokens // config.batch), peak, config.warm_up, config.decay)


def _write_log(run: Run, log: TrainingLog, schedule: Schedule, config: TrainConfig) -> None:
    """A line of the means since the line before."""
    fvu, l0, grad_norm = (run.sums / run.summed).tolist()
    if not math.isfinite(fvu):
        raise ActivationError(f"the loss is {fvu} at step {run.step}: lower train.lr (now {schedule.peak:g}) and redo")
    record = {
        "step": run.step,
        "vectors": run.step * config.batch,
        "fvu": fvu,
        "l0": l0,
        "grad_norm": grad_norm,
        "lr": schedule.rate(run.step - 1),
        "dead": dead_latents(run, config).double().mean().item(),
    }
    if run.coder.activation.penalty is not None:
        record["sparsity"] = run.sparsity.item()
    log.write(record)
    run.sums.zero_()
    run.summed = 0
    run.log_bytes = log.size


LOG_EVERY = 50
"""Steps between lines of the log."""


def _start(data: FitInUnits, spec: CoderSpec, config: TrainConfig, folder: Path, seed: int) -> Run:
    """The run at its first step, or where its checkpoint left it."""
    units, generator = data.units, derived_generator("initialise", seed)
    mean_x, mean_y = data.fit.mean_x - units.x_mean, data.fit.mean_y - units.y_mean
    coder = initialise(spec, mean_x / units.x_scale, mean_y / units.y_scale, generator).to(data.device)
    run = Run(coder, identity(data.fit.fingerprint, spec, config, seed))
    if config.sparsity is not None:
        run.sparsity.fill_(config.sparsity)
    load_checkpoint(folder, run)
    return run
