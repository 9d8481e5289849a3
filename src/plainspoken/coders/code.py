"""A sparse code: which latents fire at each input and how strongly, without a dense [n, latents] array."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Support:
    """Which latents a batch of codes names, read both ways: the latents of a row, and the rows of a latent.

    The second reading turns the gradient of a weight matrix into a sum over the few rows that used each latent
    (`sum_by_latent`), so that neither a dense [n, latents] nor an [n, k, d] array is ever built. It is sorted out once
    and serves both the encoder's gradient and the decoder's.
    """

    indices: Int[Tensor, "n k"]
    latents: int

    @cached_property
    def order(self) -> Int[Tensor, " nk"]:
        """The flat entries n*k sorted by latent, rows ascending within a latent (a stable sort: deterministic)."""
        flat = self.indices.flatten()
        # Radix sort over 16 bits is several times faster than over 64.
        return torch.argsort(flat.short() if self.latents <= 2**15 else flat, stable=True)

    @cached_property
    def rows(self) -> Int[Tensor, " nk"]:
        """The row of every entry, in the same order."""
        return torch.div(self.order, self.indices.shape[1], rounding_mode="floor")

    @cached_property
    def offsets(self) -> Int[Tensor, " latents"]:
        """Where each latent's entries start in that order."""
        counts = torch.bincount(self.indices.flatten(), minlength=self.latents)
        return counts.cumsum(0) - counts

    def sum_by_latent(self, weights: Float[Tensor, "n k"], table: Float[Tensor, "n d"]) -> Float[Tensor, "latents d"]:
        """For every latent the sum of weights[i, j] * table[i] over the entries (i, j) that name it: codeᵀ · table."""
        return torch.nn.functional.embedding_bag(
            self.rows, table, self.offsets, mode="sum", per_sample_weights=weights.flatten()[self.order]
        )


@dataclass(frozen=True, eq=False)
class SparseCode:
    """The latents of n inputs, at most k each. A value of 0 says that the latent beside it is absent.

    Within a row every index stands at most once; the order of a row's entries means nothing.
    """

    values: Float[Tensor, "n k"]
    indices: Int[Tensor, "n k"]
    support: Support | None = None
    """The indices with their sorting, shared by whoever differentiates through this code."""
