"""BatchTopK: k latents a token in the mean over a batch (Bussmann et al. 2024, arXiv 2412.06410).

In training the n k largest of a batch of n fire, so that hard tokens get more latents than easy ones. The smallest that
fired is averaged over the training and kept: at inference, where a token must not depend on its neighbours, a latent
fires above that threshold.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.activation import Activation, Gather, above, relu
from plainspoken.coders.code import SparseCode
from plainspoken.coders.largest import largest
from plainspoken.coders.support import Sparse

_SPREAD = 4
"""A row is first searched for this many times k."""


def encode(pre: Float[Tensor, "n latents"], _: int | None, threshold: Float[Tensor, "1"] | None) -> SparseCode:
    """ReLU(pre) where it is above the one threshold."""
    assert threshold is not None
    return above(pre, threshold)


def choose(pre: Float[Tensor, "n m"], k: int | None, _: Float[Tensor, "1"] | None, gather: Gather) -> Sparse:
    """The n k largest positive ones of the whole batch, of however many processes.

    Looked for among the 4 k largest of each row; should a row's last of those fire too, the whole row is searched.
    """
    assert k is not None
    spread = min(_SPREAD * k, pre.shape[1])
    values, columns = largest(pre, spread)
    mask = torch.zeros_like(pre, dtype=torch.bool).scatter_(1, columns, values >= _cut(values, k, gather))
    most = mask.sum(1).max()[None] if len(pre) else torch.zeros(1, dtype=torch.long, device=pre.device)
    if gather(most).max() == spread < pre.shape[1]:
        mask = pre >= _cut(pre, k, gather)
    return Sparse.where(mask & (pre > 0))


def _cut(pre: Float[Tensor, "n c"], k: int, gather: Gather) -> Float[Tensor, ""]:
    """The (n k)-th largest of the batch, of which this process's part may be empty; infinite where all of it is."""
    rows = int(gather(torch.tensor([len(pre)], device=pre.device)).sum())
    top = pre.flatten().topk(min(rows * k, pre.numel()), sorted=False).values
    everybody = gather(top)
    return everybody.topk(rows * k).values[-1] if rows else pre.new_tensor(torch.inf)


BATCH_TOPK = Activation("batch_topk", encode, choose, relu, by="batch", threshold="one")
