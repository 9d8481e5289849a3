"""What the weights of all latents of a coder speak of, in tokens: those they promote, and those that excite them.

The same as `vocabulary` has it, for explainers that are shown no text. What later layers make of what is promoted is
not in it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from plainspoken.circuits.vocabulary import exciting_tokens, promoted_tokens
from plainspoken.circuits.weights import written
from plainspoken.coders import Coder
from plainspoken.errors import ModelError
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import anatomy
from plainspoken.types import Site

TOP = 20


@dataclass(frozen=True, eq=False)
class LatentTokens:
    """Token ids of the model that is rewritten, for each latent the most strongly named first, with their scores.

    `promoted`: the tokens whose logits the decoder row raises most; `read`: those that raise the latent's own
    pre-activation most, none for a coder that reads an FFN's output. The scores have no common unit. Tokens without
    text (special ones, padding of the vocabulary) are left out.
    """

    promoted: Int[np.ndarray, "latents top"]
    promoted_score: Float[np.ndarray, "latents top"]
    read: Int[np.ndarray, "latents top_read"]
    read_score: Float[np.ndarray, "latents top_read"]


def latent_tokens(lm: LanguageModel, coder: Coder, site: Site, top: int = TOP) -> LatentTokens:
    """The `top` tokens on either side of every latent of a coder at a site.

    Raises ModelError for a coder of another width than the model's, and for a model of a family that circuits do not
    know (`lm.anatomy`).
    """
    if not lm.d_model == coder.spec.d_in == coder.spec.d_out:
        raise ModelError(
            f"{lm.name}: its embedding is {lm.d_model} wide, the coder reads {coder.spec.d_in} and writes "
            f"{coder.spec.d_out}: weights can be named in tokens only where all are of one width; use an explainer "
            "that reads text"
        )
    of, pieces = anatomy(lm), lm.pieces.table
    promoted, _ = promoted_tokens(of, written(of, site, coder.W_dec), top, pieces)
    read = exciting_tokens(of, site, coder.W_enc, top, pieces)
    none = np.zeros((coder.spec.latents, 0))
    return LatentTokens(
        promoted.token,
        promoted.effect,
        none.astype(np.int32) if read is None else read.token,
        none if read is None else read.effect,
    )
