"""Another project's weights on their way to ours: what it does beside W_enc x + b_enc is folded in, exactly.

Sums run in float64, so that folding rounds once; a latent's order among the others is then as it was.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.base import Coder, CoderKind, CoderSpec
from plainspoken.coders.formats.tensors import AGAIN
from plainspoken.errors import CoderError, ConfigError

_ROWS = 4096
"""Rows of W_enc that are in float64 at a time: a copy of a large coder's whole matrix would double its memory."""


@dataclass(frozen=True, eq=False)
class Weights:
    """A coder's weights in our orientation: z = activation(W_enc x + b_enc), output = W_decᵀ z + b_dec (+ W_skip x)."""

    W_enc: Float[Tensor, "latents d_in"]
    b_enc: Float[Tensor, " latents"]
    W_dec: Float[Tensor, "latents d_out"]
    b_dec: Float[Tensor, " d_out"]
    threshold: Float[Tensor, "..."] | None = None
    W_skip: Float[Tensor, "d_out d_in"] | None = None

    def reading_less(self, shift: Float[Tensor, " d_in"]) -> "Weights":
        """The weights that give for x what these give for x - shift to the encoder: b_enc - W_enc shift."""
        return replace(self, b_enc=(self.b_enc.double() - times(self.W_enc, shift)).float())

    def with_latents_times(self, factor: Float[Tensor, " latents"]) -> "Weights":
        """Every latent is factor times as large and counts as much less: among the k largest other ones may be.

        A latent whose factor is 0 never fires.
        """
        by = factor.double()[:, None]
        W_dec = torch.where(by > 0, self.W_dec.double() / by, 0.0)
        W_enc, b_enc = self.W_enc.double() * by, self.b_enc.double() * by[:, 0]
        return replace(self, W_enc=W_enc.float(), b_enc=b_enc.float(), W_dec=W_dec.float())

    def coder(self, path: Path, kind: CoderKind, activation: str, k: int | None) -> Coder:
        """The coder of these weights, requiring no gradient. CoderError, naming `path`, where there can be none."""
        (latents, d_in), d_out = self.W_enc.shape, self.W_dec.shape[1]
        try:
            with torch.device("meta"):  # these tensors take the place of its own
                coder = Coder(CoderSpec(kind, activation, latents, k, self.W_skip is not None, d_in, d_out))
        except ConfigError as error:
            raise CoderError(f"{path} holds a coder that cannot be: {error}; {AGAIN}") from error
        held = {name: tensor.contiguous() for name, tensor in vars(self).items() if tensor is not None}
        for name, tensor in held.items():
            if not torch.isfinite(tensor).all():
                raise CoderError(f"{path}: folded into one, its weights are too large for float32, in {name}")
        coder.load_state_dict(held, assign=True)
        return coder.requires_grad_(False)


def times(W: Float[Tensor, "latents d_in"], x: Float[Tensor, " d_in"]) -> Float[Tensor, " latents"]:
    """W x in float64."""
    return torch.cat([rows.double() @ x.double() for rows in W.split(_ROWS)])
