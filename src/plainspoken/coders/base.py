"""The sparse coder: transcoder, skip transcoder and sparse autoencoder are one module that differs in its spec."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.code import SparseCode
from plainspoken.coders.registry import ACTIVATIONS
from plainspoken.coders.sparse import decode_at, pre_at
from plainspoken.coders.support import Sparse
from plainspoken.config.named import named
from plainspoken.errors import ConfigError

CoderKind = Literal["transcoder", "sae"]


@dataclass(frozen=True)
class CoderSpec:
    """What a coder is, apart from its weights."""

    kind: CoderKind
    """`transcoder`: from a module's input to its output; `sae`: reconstructs its input (d_in = d_out)."""
    activation: str
    """A name in `ACTIVATIONS`."""
    latents: int
    k: int | None
    """Latents that fire at a token: at most (topk), or in the mean, as training aims at. None: not known."""
    skip: bool
    """Adds a linear path W_skip x beside the latents."""
    d_in: int
    d_out: int

    def __post_init__(self) -> None:
        named(ACTIVATIONS, self.activation, "coder.activation")
        if min(self.latents, self.d_in, self.d_out) < 1 or (self.k is not None and self.k < 1):
            sizes = f"latents = {self.latents}, k = {self.k}, d_in = {self.d_in}, d_out = {self.d_out}"
            raise ConfigError(f"a coder's sizes must be at least 1, and here {sizes}")
        if self.k is None and self.activation == "topk":
            raise ConfigError("a topk coder needs k: how many latents fire at a token")
        if self.k is not None and self.k > self.latents:
            raise ConfigError(f"coder.k is {self.k}, more than coder.latents = {self.latents}; lower k or add latents")
        if self.kind == "sae" and self.d_in != self.d_out:
            raise ConfigError(f"an sae reconstructs its input, but d_in = {self.d_in} and d_out = {self.d_out}")
        if self.kind == "sae" and self.skip:
            raise ConfigError("an sae with a skip would copy its input; use coder.skip=false, or a transcoder")


class Coder(torch.nn.Module):
    """z = activation(W_enc x + b_enc); output = W_decᵀ z + b_dec (+ W_skip x). Final: vary the activation, not this.

    Weights lie latent by latent: W_enc [latents d_in], W_dec [latents d_out]. They start at zero (see `initialise`).
    `threshold` is [latents] where each latent has its own, [1] where there is one for all, None where there is none.
    (Paulo & Belrose, arXiv 2501.18838, section 3; Dunefsky et al., arXiv 2406.11944.)
    """

    threshold: Float[Tensor, " size"] | None

    def __init__(self, spec: CoderSpec, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.spec = spec
        self.W_enc = torch.nn.Parameter(torch.zeros(spec.latents, spec.d_in, dtype=dtype))
        self.b_enc = torch.nn.Parameter(torch.zeros(spec.latents, dtype=dtype))
        self.W_dec = torch.nn.Parameter(torch.zeros(spec.latents, spec.d_out, dtype=dtype))
        self.b_dec = torch.nn.Parameter(torch.zeros(spec.d_out, dtype=dtype))
        self.W_skip = torch.nn.Parameter(torch.zeros(spec.d_out, spec.d_in, dtype=dtype)) if spec.skip else None
        self.activation = ACTIVATIONS[spec.activation]
        size = {"none": 0, "one": 1, "each": spec.latents}[self.activation.threshold]
        threshold = torch.full((size,), self.activation.start, dtype=dtype) if size else None
        if self.activation.learned and threshold is not None:
            self.threshold = torch.nn.Parameter(threshold)
        else:
            self.register_buffer("threshold", threshold)

    def pre(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n latents"]:
        """W_enc x + b_enc, before the activation, in the coder's precision."""
        return torch.addmm(self.b_enc, x.to(self.W_enc.dtype), self.W_enc.T)

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The latents of each input. Gradients flow through the values, never through the choice of entries."""
        with torch.no_grad():
            code = self.activation.encode(self.pre(x), self.spec.k, self.threshold)
        if not torch.is_grad_enabled():
            return code
        support = Sparse.regular(code.indices, self.spec.latents)
        pre = pre_at(x.to(self.W_enc.dtype), self.W_enc, self.b_enc, support, code.values.flatten())
        # Entries of value 0 are absent: nothing flows through a latent that does not fire.
        return SparseCode(pre.view_as(code.values).relu(), code.indices, support)

    def dense(self, code: SparseCode) -> Float[Tensor, "n latents"]:
        """The code written out. For one batch at a time."""
        out = code.values.new_zeros(code.values.shape[0], self.spec.latents)
        return out.scatter(1, code.indices, code.values)

    def decode(self, code: SparseCode) -> Float[Tensor, "n d_out"]:
        """W_decᵀ z + b_dec."""
        support = code.support or Sparse.regular(code.indices, self.spec.latents)
        return decode_at(code.values.flatten(), self.W_dec, support) + self.b_dec

    def decode_dense(self, z: Float[Tensor, "n latents"]) -> Float[Tensor, "n d_out"]:
        """W_decᵀ z + b_dec of latents written out, which need not be sparse."""
        return torch.addmm(self.b_dec, z, self.W_dec)

    def skip(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """W_skip x, or zeros in a coder without a skip."""
        x = x.to(self.W_enc.dtype)
        return x.new_zeros(x.shape[0], self.spec.d_out) if self.W_skip is None else x @ self.W_skip.T

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """decode(encode(x)) + skip(x)."""
        out = self.decode(self.encode(x))
        return out if self.W_skip is None else out + self.skip(x)
