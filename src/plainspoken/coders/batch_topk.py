"""BatchTopK: k latents a token in the mean over a batch (Bussmann et al. 2024, arXiv 2412.06410).

In training the n k largest of a batch of n fire, so that hard tokens get more latents than easy ones. The smallest that
fired is averaged over the training and kept: at inference, where a token must not depend on its neighbours, a latent
fires above that threshold.
"""

from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.activation import Activation, above
from plainspoken.coders.code import SparseCode


def encode(pre: Float[Tensor, "n latents"], _: int | None, threshold: Tensor | None) -> SparseCode:
    """ReLU(pre) where it is above the one threshold."""
    assert threshold is not None
    return above(pre, threshold)


BATCH_TOPK = Activation("batch_topk", threshold="one", learned=False, encode=encode)
