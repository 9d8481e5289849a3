"""What a coder makes of a site's outputs, streamed over text: error, variance, firings, summed up by document.

Definitions are in docs/measures.md. Memory does not grow with the text's tokens: one batch of activations, and a
[documents, d_out] array, from which the variance of any resample of documents follows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.activations import BATCH_ROWS, ActivationBatch, stream
from plainspoken.coders import Coder
from plainspoken.lm import LanguageModel
from plainspoken.types import Rows, Site

ENCODE_AT_ONCE = 2**24
"""Pre-activations computed at a time: bounds [tokens, latents]."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Sums over the tokens of each document, in float64.

    `error`: ||y - coder(x)||². `active`: latents that fire. `moment` and `square`: y - reference and its squared norm;
    `reference`, a vector near the mean of y, keeps what is subtracted later from swallowing what is left.
    `firings`: the tokens at which each latent fires; `activation`: the sum of its values there.
    """

    tokens: Float[np.ndarray, " documents"]
    error: Float[np.ndarray, " documents"]
    active: Float[np.ndarray, " documents"]
    square: Float[np.ndarray, " documents"]
    moment: Float[np.ndarray, "documents d_out"]
    reference: Float[np.ndarray, " d_out"]
    firings: Int[np.ndarray, " latents"]
    activation: Float[np.ndarray, " latents"]

    @property
    def mean(self) -> Float[np.ndarray, " d_out"]:
        """The mean of y over all the tokens."""
        return self.reference + self.moment.sum(axis=0) / self.tokens.sum()

    def fvu(self, counts: Float[np.ndarray, "values documents"]) -> Float[np.ndarray, " values"]:
        """sum ||y - coder(x)||² / sum ||y - mean y||² with each document counted so often; NaN where y never varies.

        Sums and mean run over all the tokens counted: it is no mean of ratios of batches or documents.
        """
        shift = (np.square(counts @ self.moment).sum(axis=1)) / np.maximum(counts @ self.tokens, 1)
        variance = counts @ self.square - shift
        return np.divide(counts @ self.error, variance, out=np.full(len(counts), np.nan), where=variance > 0)

    def l0(self, counts: Float[np.ndarray, "values documents"]) -> Float[np.ndarray, " values"]:
        """Latents firing at a token, in the mean."""
        return (counts @ self.active) / (counts @ self.tokens)

    @property
    def dead(self) -> float:
        """Share of the latents that fire at none of the tokens: the window is their number."""
        return float((self.firings == 0).mean())

    @property
    def latent_mean(self) -> Float[np.ndarray, " latents"]:
        """The mean of each latent over all the tokens."""
        return self.activation / self.tokens.sum()

    @property
    def rate(self) -> Float[np.ndarray, " latents"]:
        """Share of the tokens at which each latent fires."""
        return self.firings / self.tokens.sum()


def reconstruct(
    lm: LanguageModel,
    site: Site,
    coder: Coder,
    rows: Rows,
    progress: Callable[[int], object] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Reconstruction:
    """The coder run at every token of the text (neither BOS nor padding), in one pass that ends at the site.

    `progress` is told how many more rows are done. Raises ActivationError for NaN or infinity in the activations.
    """
    sums = _Sums(coder, len(rows.keys))
    for batches in stream(lm, [site], rows, batch_rows, progress):
        batch = batches[site.module]
        document = rows.document[batch.first_row : batch.first_row + len(batch.tokens)]
        for x, y, owner in _pieces(batch, document, max(1, ENCODE_AT_ONCE // coder.spec.latents)):
            sums.add(x.to(coder.W_enc), y.to(coder.W_enc), owner)
    return sums.finish()


def _pieces(
    batch: ActivationBatch, document: Int[np.ndarray, " b"], size: int
) -> Iterator[tuple[Float[Tensor, "n d_in"], Float[Tensor, "n d_out"], Int[Tensor, " n"]]]:
    """(x, y, document) of the batch's tokens of text, at most `size` of them at a time."""
    owner = torch.from_numpy(document.astype(np.int64)).to(batch.mask.device)
    owner = owner[:, None].expand_as(batch.mask)[batch.mask]
    x, y = batch.x[batch.mask], batch.y[batch.mask]
    yield from zip(x.split(size), y.split(size), owner.split(size), strict=True)


class _Sums:
    """The fitter of a Reconstruction."""

    def __init__(self, coder: Coder, documents: int) -> None:
        self._coder, self._reference = coder, None
        self._scalars = torch.zeros(4, documents, dtype=torch.float64)
        self._moment = torch.zeros(documents, coder.spec.d_out, dtype=torch.float64)
        self._firings = torch.zeros(coder.spec.latents, dtype=torch.long)
        self._activation = torch.zeros(coder.spec.latents, dtype=torch.float64)

    @torch.no_grad()
    def add(self, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], document: Int[Tensor, " n"]) -> None:
        """More tokens of text."""
        if not len(x):
            return
        code = self._coder.encode(x)
        fires = code.values > 0
        error = y.double() - (self._coder.decode(code) + self._coder.skip(x)).double()
        if self._reference is None:
            self._reference = y.double().mean(dim=0)
        apart = y.double() - self._reference
        of_token = (torch.ones(len(x)), error.square().sum(1), fires.sum(1), apart.square().sum(1))
        document = document.cpu()
        self._scalars.index_add_(1, document, torch.stack([part.double().cpu() for part in of_token]))
        self._moment.index_add_(0, document, apart.cpu())
        self._firings += torch.bincount(code.indices[fires], minlength=len(self._firings)).cpu()
        self._activation.index_add_(0, code.indices[fires].cpu(), code.values[fires].double().cpu())

    def finish(self) -> Reconstruction:
        """What was summed."""
        tokens, error, active, square = self._scalars.numpy()
        reference = torch.zeros(self._moment.shape[1]) if self._reference is None else self._reference
        return Reconstruction(
            tokens, error, active, square, self._moment.numpy(), reference.double().cpu().numpy(),
            self._firings.numpy(), self._activation.numpy(),
        )  # fmt: skip
