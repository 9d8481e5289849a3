"""How many steps, and the learning rate at each."""

import math
from dataclasses import dataclass

from plainspoken.errors import ConfigError

PAPER_WIDTH = 768
"""d_model of Pythia-160M, for which the paper chose its rate."""


def base_rate(latents: int, width: int = PAPER_WIDTH) -> float:
    """The paper's Adam rate 2e-4 / sqrt(latents / 2^14) (arXiv 2501.18838, section 3; Gao et al. 2024), at its width.

    A step of Adam moves each weight by about the rate and so, with inputs of unit variance, a pre-activation by about
    rate * width: for another width the rate goes as 1 / width (Yang et al. 2022, arXiv 2203.03466, table 3).
    """
    return 2e-4 / math.sqrt(latents / 2**14) * PAPER_WIDTH / width


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over `warm_up` steps, then `peak`, then linear to zero over the last `decay` share of steps."""

    steps: int
    peak: float
    warm_up: int
    decay: float

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warm_up < 0 or not 0.0 <= self.decay <= 1.0 or not self.peak > 0.0:
            raise ConfigError(f"a training schedule that cannot be: {self}")

    def rate(self, step: int) -> float:
        """The rate of step 0, 1, ..., steps - 1."""
        up = (step + 1) / (self.warm_up + 1)
        down = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.peak * min(1.0, up, down)
