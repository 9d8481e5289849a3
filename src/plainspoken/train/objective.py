"""From settings to what a training lowers and how fast: where they do not go together, that is said."""

from itertools import pairwise

import torch

from plainspoken.coders import ACTIVATIONS, CoderSpec
from plainspoken.coders.bfloat16 import pays
from plainspoken.config import TrainConfig
from plainspoken.errors import ConfigError
from plainspoken.train.losses import Objective
from plainspoken.train.schedule import PAPER_WIDTH, Schedule, base_rate


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
    if config.sparsity is not None and ACTIVATIONS[spec.activation].penalty is None:
        raise ConfigError(f"train.sparsity is of relu and jump_relu coders, but coder.activation is {spec.activation}")
    by_row = ACTIVATIONS[spec.activation].by == "row"
    if config.precision == "bfloat16" and not by_row:
        raise ConfigError(f"train.precision=bfloat16 is of topk coders, not coder.activation={spec.activation}")
    fast = config.precision == "auto" and by_row and pays(device, spec.latents, spec.d_in)
    rounded = config.precision == "bfloat16" or fast
    return Objective(variance, config.prefixes, config.multi_topk, config.aux_k, rounded)


def schedule_of(config: TrainConfig, spec: CoderSpec) -> Schedule:
    """The schedule that a configuration asks for: `tokens` vectors in steps of `batch`, rounded up."""
    width = spec.d_in if config.normalise else PAPER_WIDTH
    peak = config.lr if config.lr is not None else base_rate(spec.latents, width) * config.lr_scale
    return Schedule(-(-config.tokens // config.batch), peak, config.warm_up, config.decay)
