"""One step of training: loss → gradients → weights, and the thresholds and the penalty's weight that follow them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plainspoken.config import TrainConfig
from plainspoken.train.checkpoint import Run
from plainspoken.train.losses import Objective, Terms, terms
from plainspoken.train.processes import ALONE, Processes, gradients

FIRST_SPARSITY = 1e-3
"""The penalty's weight from which steering starts: about what a latent more at a token wins in FVU."""
STEER = 0.02
"""How fast the weight of a penalty on activations follows: by a factor e in 50 steps where twice too many fire."""
PUSH = 0.3
"""Weight of a penalty on thresholds where twice too many latents fire; negative where too few do, since nothing else
brings a threshold down again: the gradient of (L0 / k - 1)² (Rajamanoharan et al., arXiv 2407.14435, appendix)."""
FOLLOW = 0.01
"""Share of a batch in the running mean of BatchTopK's threshold."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """How every step of a training is taken: by which settings, down which loss, and with whom."""

    config: TrainConfig
    objective: Objective
    processes: Processes = ALONE


def step(run: Run, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], recipe: Recipe, rate: float) -> None:
    """One step of Adam on this process's share of a batch."""
    found, rows = terms_of(run, x, y, recipe)
    run.optimizer.zero_grad()
    found.total.backward()
    move(run, found, rows, recipe, rate)


def terms_of(run: Run, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], recipe: Recipe) -> tuple[Terms, int]:
    """(the loss of this process's share of a batch, rows of the whole batch), from where the run stands."""
    rows = recipe.processes.count(len(x), x.device)
    dead = dead_latents(run, recipe.config).nonzero().squeeze(1) if recipe.objective.aux_k else None
    gather = recipe.processes.gather
    return terms(run.coder, x, y, recipe.objective, max(1, rows), dead, run.sparsity, gather), rows


def move(run: Run, found: Terms, rows: int, recipe: Recipe, rate: float, kl: Float[Tensor, ""] | None = None) -> None:
    """Takes the step down the gradients that are there, and adds its figures to those that the log will show."""
    processes = recipe.processes
    processes.add(*gradients(run.parameters))
    norm = descend(run, rate, recipe.config.grad_clip)
    figures = torch.stack([found.fvu.double(), found.l0.double(), (found.fvu * 0 if kl is None else kl).double()])
    fired = found.fired.int()
    processes.add(figures, fired)
    run.sums += torch.cat([figures, norm.double()[None]])
    run.summed += 1
    run.seen += rows
    run.fired_at[fired > 0] = run.step
    _follow(run, found, figures[1], recipe)
    run.step += 1


def descend(run: Run, rate: float, grad_clip: float) -> Float[Tensor, ""]:
    """Moves the weights along their gradients; the gradient's norm before clipping."""
    norm = torch.nn.utils.get_total_norm(gradients(run.parameters))
    shrink = (norm / grad_clip).clamp(min=1.0)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    if run.optimizer.defaults["fused"]:
        # Divided by in the optimizer's own pass over the gradients, as a GradScaler has it done.
        # It wants a float32, whatever the weights are.
        run.optimizer.grad_scale = shrink.float()  # pyright: ignore[reportAttributeAccessIssue]
    else:
        for gradient in gradients(run.parameters):
            gradient.div_(shrink)
    run.optimizer.step()
    return norm


def _follow(run: Run, found: Terms, l0: Float[Tensor, ""], recipe: Recipe) -> None:
    """Brings thresholds and the penalty's weight after the step."""
    coder, activation = run.coder, run.coder.activation
    with torch.no_grad():
        if coder.threshold is not None and activation.learned:
            coder.threshold.clamp_(min=0.0)
        elif coder.threshold is not None:
            smallest = recipe.processes.gather(found.smallest[None]).min()
            if math.isfinite(smallest):
                # In a short training the first thresholds are soon far off: its last tenth counts most.
                coder.threshold.lerp_(smallest.expand(1), max(FOLLOW, 10 / (run.step + 10)))
        if activation.penalty is not None and recipe.config.sparsity is None:
            assert coder.spec.k is not None
            excess = (l0 / coder.spec.k - 1.0).clamp(-1.0, 1.0)
            if activation.learned:
                run.sparsity.copy_(PUSH * excess)
            else:
                run.sparsity.mul_(torch.exp(STEER * excess))


def dead_latents(run: Run, config: TrainConfig) -> Bool[Tensor, " latents"]:
    """Which latents did not fire in the last `dead_after` vectors."""
    return run.fired_at < run.step - -(-config.dead_after // config.batch)
