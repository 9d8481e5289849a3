"""Which latents a batch of inputs names, and the three sums over them that encoding, decoding and gradients come to.

    row sum      out[i] = sum of values[e] * table[latent e] over the entries e of row i      decode; the gradient to x
    latent sum   out[l] = sum of values[e] * table[row e] over the entries e of latent l      the gradients of weights
    dot          out[e] = <left[row e], table[latent e]>                                      encode; gradient of values

Each costs entries * d and never builds a dense [n, latents] or an [entries, d] array.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

# Compressed sparse rows are said to be in beta; only their layout and one product are used here.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning)


class Support(ABC):
    """Entries (row, latent) of a batch. Values lie entry by entry: [nnz] where sparse, [n, latents] where dense."""

    latents: int

    @abstractmethod
    def row_sum(self, values: Float[Tensor, "*nnz"], table: Float[Tensor, "latents d"]) -> Float[Tensor, "n d"]:
        """For every row the sum of its values times their latents' rows of the table."""

    @abstractmethod
    def latent_sum(self, values: Float[Tensor, "*nnz"], table: Float[Tensor, "n d"]) -> Float[Tensor, "latents d"]:
        """For every latent the sum of its values times their rows of the table: codeᵀ · table."""

    @abstractmethod
    def dot(self, left: Float[Tensor, "n d"], table: Float[Tensor, "latents d"]) -> Float[Tensor, "*nnz"]:
        """The products of rows on the left with latents of the table, at the entries only."""

    @abstractmethod
    def of_latent(self, vector: Shaped[Tensor, " latents"]) -> Shaped[Tensor, "*nnz"]:
        """What a vector over latents holds for each entry's latent."""

    @abstractmethod
    def total(self, values: Float[Tensor, "*nnz"]) -> Float[Tensor, " latents"]:
        """For every latent the sum of its values."""

    @abstractmethod
    def latents_where(self, chosen: Bool[Tensor, "*nnz"]) -> Bool[Tensor, " latents"]:
        """Which latents have an entry that is chosen."""


@dataclass(frozen=True, eq=False)
class Sparse(Support):
    """Entries listed row by row; a row may have any number of them, each latent at most once."""

    latent: Int[Tensor, " nnz"]
    start: Int[Tensor, " n_1"]
    """Where each row's entries start, and after the last row where they end."""
    latents: int

    @staticmethod
    def regular(indices: Int[Tensor, "n k"], latents: int) -> "Sparse":
        """Of k entries a row."""
        n, k = indices.shape
        return Sparse(indices.flatten(), torch.arange(0, n * k + 1, k, device=indices.device)[: n + 1], latents)

    @staticmethod
    def where(mask: Bool[Tensor, "n latents"]) -> "Sparse":
        """The entries at which the mask is True."""
        row, latent = mask.nonzero(as_tuple=True)
        count = torch.bincount(row, minlength=len(mask))
        return Sparse(latent, torch.nn.functional.pad(count.cumsum(0), (1, 0)), mask.shape[1])

    @cached_property
    def row(self) -> Int[Tensor, " nnz"]:
        """The row of every entry."""
        n = len(self.start) - 1
        each = self.start.diff()
        return torch.arange(n, device=each.device).repeat_interleave(each, output_size=len(self.latent))

    @cached_property
    def order(self) -> Int[Tensor, " nnz"]:
        """The entries sorted by latent, rows ascending within a latent (a stable sort: deterministic)."""
        # Radix sort over 16 bits is several times faster than over 64.
        return torch.argsort(self.latent.short() if self.latents <= 2**15 else self.latent, stable=True)

    @cached_property
    def row_in_order(self) -> Int[Tensor, " nnz"]:
        """The row of every entry, in that order. Sorted out once for the encoder's gradient and the decoder's."""
        return self.row[self.order]

    @cached_property
    def latent_start(self) -> Int[Tensor, " latents"]:
        """Where each latent's entries start in that order."""
        counts = torch.bincount(self.latent, minlength=self.latents)
        return counts.cumsum(0) - counts

    def row_sum(self, values: Float[Tensor, " nnz"], table: Float[Tensor, "latents d"]) -> Float[Tensor, "n d"]:
        """One embedding bag a row."""
        return torch.nn.functional.embedding_bag(
            self.latent, table, self.start[:-1], mode="sum", per_sample_weights=values
        )

    def latent_sum(self, values: Float[Tensor, " nnz"], table: Float[Tensor, "n d"]) -> Float[Tensor, "latents d"]:
        """One embedding bag a latent, over the entries sorted by latent."""
        return torch.nn.functional.embedding_bag(
            self.row_in_order, table, self.latent_start, mode="sum", per_sample_weights=values[self.order]
        )

    def dot(self, left: Float[Tensor, "n d"], table: Float[Tensor, "latents d"]) -> Float[Tensor, " nnz"]:
        """A product of matrices sampled at the entries; on a GPU the gradient of an embedding bag to its weights."""
        left = left.contiguous()
        if left.is_cuda:  # the faster kernel there
            return torch.ops.aten._embedding_bag_per_sample_weights_backward(
                left, table, self.latent, self.start[:-1], self.row, 0
            )
        blank = torch.sparse_csr_tensor(
            self.start, self.latent, left.new_zeros(len(self.latent)), (len(left), self.latents), check_invariants=False
        )
        return torch.sparse.sampled_addmm(blank, left, table.T, beta=0.0).values()

    def of_latent(self, vector: Shaped[Tensor, " latents"]) -> Shaped[Tensor, " nnz"]:
        """The vector gathered entry by entry."""
        return vector[self.latent]

    def total(self, values: Float[Tensor, " nnz"]) -> Float[Tensor, " latents"]:
        """`latent_sum` with a table of ones."""
        # One column of `latent_sum`: adding up by index would not be deterministic on a GPU.
        return self.latent_sum(values, values.new_ones(len(self.start) - 1, 1)).squeeze(1)

    def latents_where(self, chosen: Bool[Tensor, " nnz"]) -> Bool[Tensor, " latents"]:
        """Marks them one by one: in no order that could count."""
        return chosen.new_zeros(self.latents).index_fill_(0, self.latent[chosen], True)


@dataclass(frozen=True, eq=False)
class Dense(Support):
    """Every latent of every row: what many firings at once, as at the start of L1 training, are cheaper as."""

    latents: int

    def row_sum(self, values: Float[Tensor, "n latents"], table: Float[Tensor, "latents d"]) -> Float[Tensor, "n d"]:
        """values · table."""
        return values @ table

    def latent_sum(self, values: Float[Tensor, "n latents"], table: Float[Tensor, "n d"]) -> Float[Tensor, "latents d"]:
        """valuesᵀ · table."""
        return values.T @ table

    def dot(self, left: Float[Tensor, "n d"], table: Float[Tensor, "latents d"]) -> Float[Tensor, "n latents"]:
        """left · tableᵀ."""
        return left @ table.T

    def of_latent(self, vector: Shaped[Tensor, " latents"]) -> Shaped[Tensor, " latents"]:
        """The vector itself: it is the same for every row."""
        return vector

    def total(self, values: Float[Tensor, "n latents"]) -> Float[Tensor, " latents"]:
        """The sum over rows."""
        return values.sum(0)

    def latents_where(self, chosen: Bool[Tensor, "n latents"]) -> Bool[Tensor, " latents"]:
        """Whether any row has it chosen."""
        return chosen.any(0)
