"""The activations that a coder is fitted on: every vector of the fit rows, kept for several epochs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

_CHUNK = 2**16


@dataclass(frozen=True, eq=False)
class ActivationStore:
    """Inputs x and outputs y of one site at the tokens of some rows, in float32, in the order of the text.

    In memory, or mapped from files when there are many: nothing here reads all of them at once. For a `resid` site x
    and y are one array.
    """

    x: Float[Tensor, "n d_in"]
    y: Float[Tensor, "n d_out"]
    fingerprint: str
    """Of the model, the site and the rows: a training run resumes on these activations and no others."""

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def mean_x(self) -> Float[Tensor, " d_in"]:
        """Mean input, summed in float64."""
        return _mean(self.x)

    @cached_property
    def mean_y(self) -> Float[Tensor, " d_out"]:
        """Mean output, summed in float64."""
        return _mean(self.y)

    @cached_property
    def variance(self) -> float:
        """mean ||y - mean y||²: the denominator of FVU, over all the vectors and centred once."""
        total = sum(float((chunk.double() - self.mean_y).square().sum()) for chunk in self.y.split(_CHUNK))
        return total / len(self)


def _mean(table: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    total = torch.zeros(table.shape[1], dtype=torch.float64)
    for chunk in table.split(_CHUNK):
        total += chunk.double().sum(0)
    return (total / len(table)).float()


def empty_table(n: int, d: int, path: Path | None) -> Float[Tensor, "n d"]:
    """Room for n vectors: in memory, or mapped from a file that is made at `path`."""
    if path is None:
        return torch.empty(n, d)
    path.parent.mkdir(parents=True, exist_ok=True)
    return torch.from_file(str(path), shared=True, size=n * d, dtype=torch.float32).view(n, d)
