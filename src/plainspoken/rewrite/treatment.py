"""What is done to a site's latents: taken as they are, blotted out, or replaced by predictions, all or some."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.coders import Coder
from plainspoken.errors import ConfigError
from plainspoken.rewrite.prediction import Prediction

Keep = Literal["all", "top-k"]
Mode = Literal["simulated", "support", "magnitude"]


@dataclass(frozen=True)
class Baseline:
    """A treatment that no explanation has a part in.

    "coder": true latents; "zero-output": the module's whole output is the zero vector; "zero-latents": all latents 0,
    bias and skip stay; "mean-latents": every latent at its mean over the calibrate documents.
    """

    kind: Literal["coder", "zero-output", "zero-latents", "mean-latents"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Chosen latents replaced by what a prediction makes of them, the others true.

    `mode`: "simulated": the predicted activation; "support": where the latent truly fires its predicted size, else 0;
    "magnitude": where the simulator says anything the true activation, else 0. `keep`: "top-k" keeps the coder's k
    largest of the mixture at each token (the paper's).
    """

    prediction: Prediction
    chosen: Bool[np.ndarray, " latents"]
    mode: Mode = "simulated"
    keep: Keep = "all"


@dataclass(frozen=True, eq=False)
class Constant:
    """The module's whole output is one vector, wherever it is spliced: its mean, say."""

    output: Float[np.ndarray, " d_out"]


Treatment = Baseline | Constant | Mixture


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of text, perhaps cut shorter at their end, and which of their positions are spliced."""

    rows: Int[np.ndarray, " b"]
    spliced: Bool[np.ndarray, "b t"]

    @cached_property
    def places(self) -> Int[Tensor, " n"]:
        """The spliced positions as indices into the flattened [b t]."""
        return torch.from_numpy(np.flatnonzero(self.spliced))


class Treated:
    """One site's outputs at the spliced positions of a batch, under any number of treatments.

    x: the site's inputs there; mean: of each latent over the calibrate documents. What treatments share is computed
    once. A mixture is decoded as a difference from the coder's output, or from the output with everything replaced,
    over no more than half of the latents: nine fractions in several orders cost little more than one. Treatments of the
    same prediction and mode should follow one another, since only the last pair's arrays are kept.
    """

    def __init__(self, coder: Coder, mean: Float[Tensor, " latents"], batch: Batch, x: Float[Tensor, "n d_in"]) -> None:
        self._coder, self._mean, self._batch, self._x = coder, mean, batch, x
        self._last: tuple[Prediction, Mode] | None = None
        self._replaced: Tensor = mean
        self._decoded: Tensor | None = None

    def output(self, treatment: Treatment) -> Float[Tensor, "n d_out"]:
        """What the site puts out: decoded latents and bias, and the true skip term."""
        if isinstance(treatment, Mixture):
            return self._mixed(treatment) + self._skip
        if isinstance(treatment, Constant):
            return torch.from_numpy(treatment.output).to(self._skip).expand_as(self._skip)
        if treatment.kind == "zero-output":
            return torch.zeros_like(self._skip)
        if treatment.kind == "coder":
            return self._decoded_true + self._skip
        latents = self._mean if treatment.kind == "mean-latents" else torch.zeros_like(self._mean)
        return self._coder.decode_dense(latents[None]) + self._skip

    @cached_property
    def _skip(self) -> Float[Tensor, "n d_out"]:
        return self._coder.skip(self._x)

    @cached_property
    def _true(self) -> Float[Tensor, "n latents"]:
        return self._coder.dense(self._coder.encode(self._x))

    @cached_property
    def _decoded_true(self) -> Float[Tensor, "n d_out"]:
        return self._coder.decode_dense(self._true)

    def _mixed(self, treatment: Mixture) -> Float[Tensor, "n d_out"]:
        """The decoded mixture, without the skip term."""
        chosen = torch.from_numpy(treatment.chosen).to(self._x.device)
        if not chosen.any():
            return self._decoded_true
        replaced = self._all_replaced(treatment.prediction, treatment.mode)
        if treatment.keep == "top-k":
            if self._coder.spec.k is None:
                raise ConfigError("evaluate.keep is top-k, but this coder's k is not known; use evaluate.keep=all")
            return self._coder.decode_dense(_largest(self._mixture(chosen, replaced), self._coder.spec.k))
        if 2 * int(chosen.sum()) <= len(chosen):
            moved = chosen.nonzero().squeeze(1)
            step = replaced.index_select(1, moved) - self._true.index_select(1, moved)
            return torch.addmm(self._decoded_true, step, self._coder.W_dec[moved])
        if self._decoded is None:
            self._decoded = self._coder.decode_dense(replaced)
        if chosen.all():
            return self._decoded
        moved = (~chosen).nonzero().squeeze(1)
        step = self._true.index_select(1, moved) - replaced.index_select(1, moved)
        return torch.addmm(self._decoded, step, self._coder.W_dec[moved])

    def _mixture(
        self, chosen: Bool[Tensor, " latents"], replaced: Float[Tensor, "n latents"]
    ) -> Float[Tensor, "n latents"]:
        return replaced if chosen.all() else torch.where(chosen, replaced, self._true)

    def _all_replaced(self, prediction: Prediction, mode: Mode) -> Float[Tensor, "n latents"]:
        """What stands in the place of the true activations where every latent is chosen."""
        if self._last is None or self._last[0] is not prediction or self._last[1] != mode:
            self._last, self._decoded = (prediction, mode), None
            self._replaced = self._replace(prediction, mode)
        return self._replaced

    def _replace(self, prediction: Prediction, mode: Mode) -> Float[Tensor, "n latents"]:
        rows, spliced, place = self._batch.rows, self._batch.spliced, self._mean
        if mode == "simulated":
            return prediction.values(rows, spliced).to(place)
        if mode == "support":
            return torch.where(self._true > 0, prediction.values(rows, spliced, sizes=True).to(place), 0.0)
        return torch.where(prediction.heard(rows, spliced).to(place.device), self._true, 0.0)


def _largest(z: Float[Tensor, "n latents"], k: int) -> Float[Tensor, "n latents"]:
    """z with all but the k largest entries of each row at 0."""
    values, indices = z.topk(k, dim=1, sorted=False)
    return torch.zeros_like(z).scatter(1, indices, values)
