"""The vectors of a step, in the units that the coder is trained in."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.activations import Moments
from plainspoken.coders import Units
from plainspoken.errors import ActivationError


def units_of(moments: Moments, normalise: bool) -> Units:
    """The units to train in: those of the activations, or with `normalise` mean 0 and variance 1 a coordinate.

    One scale for all coordinates, so that FVU is the same in both. Adam moves every weight by about the learning rate,
    so which rate is right depends on the units; in these, one rate serves sites whose activations differ in size a
    hundredfold, and a mean far from zero does not tie the weights to the bias. Raises ActivationError where x or y
    never varies.
    """
    if not (moments.variance_y > 0.0 and moments.variance_x > 0.0):
        raise ActivationError("the activations are the same at every token: there is nothing to fit; name another site")
    mean_x, mean_y = moments.mean_x, moments.mean_y
    if not normalise:
        return Units(torch.zeros_like(mean_x), 1.0, torch.zeros_like(mean_y), 1.0)
    return Units(
        mean_x, math.sqrt(moments.variance_x / len(mean_x)), mean_y, math.sqrt(moments.variance_y / len(mean_y))
    )


def in_units(
    units: Units, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], device: torch.device
) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n d_out"]]:
    """The vectors in these units, on the device. Written over x and y, which must be the caller's own."""
    scaled = x.sub_(units.x_mean.to(x.device)).div_(units.x_scale).to(device)
    if y is x:
        return scaled, scaled
    return scaled, y.sub_(units.y_mean.to(y.device)).div_(units.y_scale).to(device)
