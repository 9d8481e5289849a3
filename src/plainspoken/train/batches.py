"""The vectors of a step, in the units that the coder is trained in."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.activations import ActivationStore
from plainspoken.config import TrainConfig
from plainspoken.errors import ActivationError
from plainspoken.train.order import EpochOrder


@dataclass(frozen=True, eq=False)
class ScaledFit:
    """x / x_scale and y / y_scale of the stored vectors, a batch for each step, on the device of the training."""

    fit: ActivationStore
    order: EpochOrder
    size: int
    device: torch.device
    x_scale: float
    y_scale: float

    @property
    def variance(self) -> float:
        """mean ||y - mean y||² in these units."""
        return self.fit.variance / self.y_scale**2

    def batch(self, step: int) -> tuple[Float[Tensor, "batch d_in"], Float[Tensor, "batch d_out"]]:
        """The vectors that this step sees."""
        places = self.order.between(step * self.size, (step + 1) * self.size)
        x = self.fit.x[places].to(self.device).div_(self.x_scale)
        return x, x if self.fit.y is self.fit.x else self.fit.y[places].to(self.device).div_(self.y_scale)


def scales(fit: ActivationStore, config: TrainConfig) -> tuple[float, float]:
    """(x_scale, y_scale): 1, or with `normalise` the root mean square about the mean of a coordinate of x and of y.

    Adam moves every weight by about the learning rate, so what rate is right depends on the units; in these, one rate
    serves sites whose activations differ in size a hundredfold. Raises ActivationError where x or y never varies.
    """
    if not (fit.variance > 0.0 and fit.variance_x > 0.0):
        raise ActivationError("the activations are the same at every token: there is nothing to fit; name another site")
    if not config.normalise:
        return 1.0, 1.0
    return math.sqrt(fit.variance_x / fit.x.shape[1]), math.sqrt(fit.variance / fit.y.shape[1])
