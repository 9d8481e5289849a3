"""The vectors of a step, in the units that the coder is trained in."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.activations import ActivationStore
from plainspoken.coders import Units
from plainspoken.config import TrainConfig
from plainspoken.errors import ActivationError


@dataclass(frozen=True, eq=False)
class FitInUnits:
    """The stored vectors in some units, and their variance in them, on the device of the training."""

    fit: ActivationStore
    units: Units
    device: torch.device

    @property
    def variance(self) -> float:
        """mean ||y - mean y||²: the denominator of FVU, in these units."""
        return self.fit.variance / self.units.y_scale**2

    def batch(self, places: Int[Tensor, " batch"]) -> tuple[Float[Tensor, "batch d_in"], Float[Tensor, "batch d_out"]]:
        """The vectors at these places of the store."""
        units = self.units
        x = self.fit.x[places].sub_(units.x_mean).div_(units.x_scale).to(self.device)
        if self.fit.y is self.fit.x:
            return x, x
        return x, self.fit.y[places].sub_(units.y_mean).div_(units.y_scale).to(self.device)


def units_of(fit: ActivationStore, config: TrainConfig) -> Units:
    """The units to train in: those of the activations, or with `normalise` mean 0 and variance 1 a coordinate.

    One scale for all coordinates, so that FVU is the same in both. Adam moves every weight by about the learning rate,
    so which rate is right depends on the units; in these, one rate serves sites whose activations differ in size a
    hundredfold, and a mean far from zero does not tie the weights to the bias. Raises ActivationError where x or y
    never varies.
    """
    if not (fit.variance > 0.0 and fit.variance_x > 0.0):
        raise ActivationError("the activations are the same at every token: there is nothing to fit; name another site")
    if not config.normalise:
        return Units(torch.zeros_like(fit.mean_x), 1.0, torch.zeros_like(fit.mean_y), 1.0)
    x_scale, y_scale = (math.sqrt(v / t.shape[1]) for v, t in ((fit.variance_x, fit.x), (fit.variance, fit.y)))
    return Units(fit.mean_x, x_scale, fit.mean_y, y_scale)
