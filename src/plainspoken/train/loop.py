"""Training: batch → loss → step → log, with checkpoints from which a killed run resumes bit for bit."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.activations import ActivationStore
from plainspoken.coders import Coder, CoderSpec, fold_units, initialise
from plainspoken.config import TrainConfig
from plainspoken.errors import ActivationError, ConfigError
from plainspoken.train.batches import FitInUnits, units_of
from plainspoken.train.checkpoint import Run, identity, load_checkpoint, save_checkpoint
from plainspoken.train.log import TrainingLog
from plainspoken.train.order import EpochOrder, derived_generator
from plainspoken.train.schedule import PAPER_WIDTH, Schedule, base_rate


def train_coder(
    fit: ActivationStore,
    spec: CoderSpec,
    config: TrainConfig,
    folder: Path,
    seed: int,
    progress: Callable[[int], object] | None = None,
    device: torch.device | str = "cpu",
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
    log = TrainingLog(folder / "log.jsonl", run.log_bytes)
    if progress is not None:
        progress(run.step * config.batch)
    while run.step < schedule.steps:
        x, y = data.batch(order.between(run.step * config.batch, (run.step + 1) * config.batch))
        loss = fvu_loss(run, x, y, data.variance)
        norm = step(run, loss, schedule.rate(run.step), config.grad_clip)
        _log(run, log, loss, norm, schedule, config)
        if config.checkpoint_every and run.step % config.checkpoint_every == 0 and run.step < schedule.steps:
            save_checkpoint(folder, run)
        if progress is not None:
            progress(config.batch)
    return fold_units(run.coder, data.units).eval().requires_grad_(False)


def schedule_of(config: TrainConfig, spec: CoderSpec) -> Schedule:
    """The schedule a configuration asks for: `tokens` vectors in steps of `batch`, rounded up."""
    width = spec.d_in if config.normalise else PAPER_WIDTH
    peak = config.lr if config.lr is not None else base_rate(spec.latents, width) * config.lr_scale
    return Schedule(-(-config.tokens // config.batch), peak, config.warm_up, config.decay)


def fvu_loss(
    run: Run, x: Float[Tensor, "batch d_in"], y: Float[Tensor, "batch d_out"], variance: float
) -> Float[Tensor, ""]:
    """Fraction of variance unexplained: mean ||y - coder(x)||² / mean ||y - mean y||², the latter over the whole store.

    Remembers which latents fired.
    """
    coder = run.coder
    code = coder.encode(x)
    run.fired_at[code.indices[code.values > 0]] = run.step
    out = coder.decode(code)
    if coder.W_skip is not None:
        out = out + coder.skip(x)
    return (out - y).square().sum(1).mean() / variance


def step(run: Run, loss: Float[Tensor, ""], rate: float, grad_clip: float) -> Float[Tensor, ""]:
    """One step of Adam; the gradient's norm before clipping."""
    run.optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(run.parameters, grad_clip)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.step += 1
    return norm


def _log(run: Run, log: TrainingLog, loss: Tensor, norm: Tensor, schedule: Schedule, config: TrainConfig) -> None:
    """Adds the step to the running means, and writes a line every `LOG_EVERY` steps and after the last."""
    run.sums += torch.stack((loss.detach(), norm.detach())).double()
    run.summed += 1
    if run.step % LOG_EVERY and run.step != schedule.steps:
        return
    fvu, grad_norm = (run.sums / run.summed).tolist()
    if not (fvu == fvu and abs(fvu) != float("inf")):
        raise ActivationError(f"the loss is {fvu} at step {run.step}: lower train.lr (now {schedule.peak:g}) and redo")
    window = -(-DEAD_WINDOW // config.batch)
    dead = (run.fired_at < run.step - window).double().mean().item()
    rate = schedule.rate(run.step - 1)
    log.write(
        {
            "step": run.step,
            "vectors": run.step * config.batch,
            "fvu": fvu,
            "grad_norm": grad_norm,
            "lr": rate,
            "dead": dead,
        }
    )
    run.sums.zero_()
    run.summed = 0
    run.log_bytes = log.size


LOG_EVERY = 50
"""Steps between lines of the log."""
DEAD_WINDOW = 200_000
"""A latent is called dead in the log when it did not fire in the last so many vectors."""


def _start(data: FitInUnits, spec: CoderSpec, config: TrainConfig, folder: Path, seed: int) -> Run:
    """The run at its first step, or where its checkpoint left it."""
    units, generator = data.units, derived_generator("initialise", seed)
    mean_x, mean_y = data.fit.mean_x - units.x_mean, data.fit.mean_y - units.y_mean
    coder = initialise(spec, mean_x / units.x_scale, mean_y / units.y_scale, generator).to(data.device)
    run = Run(coder, identity(data.fit.fingerprint, spec, config, seed))
    load_checkpoint(folder, run)
    return run
