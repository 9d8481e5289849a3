"""What can be frozen: a prompt that the model takes, transcoders of its FFNs, and latents that fit them."""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.coders import Coder
from plainspoken.errors import CoderError, UsageError
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import Anatomy
from plainspoken.types import Site


def accepted_prompt(lm: LanguageModel, tokens: Int[Tensor, " t"] | Sequence[int]) -> Int[Tensor, " t"]:
    """The tokens on the model's device. Raises UsageError where they are none, too many, or unknown to the model."""
    ids = torch.as_tensor(tokens, dtype=torch.long, device=lm.device)
    if not 1 <= len(ids) <= lm.context:
        raise UsageError(f"a prompt of {len(ids)} tokens, and {lm.name} takes 1 to {lm.context}: give another prompt")
    if int(ids.min()) < 0 or int(ids.max()) >= lm.vocabulary:
        unknown = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        raise UsageError(
            f"the prompt holds token {unknown}, and {lm.name} knows 0 to {lm.vocabulary - 1}: was it written by "
            "another model's tokenizer?"
        )
    return ids


def accepted_text(
    lm: LanguageModel, tokens: Int[Tensor, " t"], text: Bool[Tensor, " prompt"] | None
) -> Bool[Tensor, " t"]:
    """The tokens at which coders are read: as given, else all but a BOS that starts them, on which none was trained.

    Raises UsageError for a mask of another length.
    """
    if text is None:
        text = torch.ones(len(tokens), dtype=torch.bool)
        text[0] = int(tokens[0]) != lm.bos_id
    if len(text) != len(tokens):
        raise UsageError(
            f"a mask of {len(text)} for a prompt of {len(tokens)} tokens: give text one entry for each token"
        )
    return text.to(tokens.device)


def accepted_latents(
    of: Anatomy, coders: Mapping[int, Coder], t: int, given: Mapping[Site, Float[Tensor, "..."]]
) -> dict[int, Float[Tensor, "t latents"]]:
    """By layer, latents that are to stand in the place of a coder's. Raises UsageError where they fit none."""
    found: dict[int, Tensor] = {}
    for site, z in given.items():
        layer = of.layer_of(site.module)
        if layer is None or layer not in coders:
            raise UsageError(f"latents are given for '{site.module}', which has no coder here: give its coder as well")
        if z.shape != (t, coders[layer].spec.latents):
            raise UsageError(
                f"latents of shape {tuple(z.shape)} are given for '{site.module}', whose coder has "
                f"{coders[layer].spec.latents} over {t} tokens: give [tokens, latents]"
            )
        found[layer] = z
    return found


def accepted_coders(of: Anatomy, coders: Mapping[Site, Coder], dtype: torch.dtype) -> dict[int, Coder]:
    """By layer, the coders in this dtype: copies where it is not theirs.

    Raises CoderError for one that is no transcoder of an FFN of this model, or that holds NaN.
    """
    found: dict[int, Coder] = {}
    for site, coder in coders.items():
        layer = of.layer_of(site.module)
        if layer is None or site.kind != "mlp" or coder.spec.kind != "transcoder":
            raise CoderError(
                f"the coder at '{site.module}' is no transcoder of an FFN: a circuit goes through a coder that reads "
                "the FFN's input; train one with coder.kind=transcoder and site=PATH.mlp"
            )
        if _holds_nan(coder):
            raise CoderError(
                f"the coder at '{site.module}' holds a weight that is not a finite number: train or fetch it again"
            )
        d = len(of.final.weight)
        if (coder.spec.d_in, coder.spec.d_out) != (d, d):
            raise CoderError(
                f"the coder at '{site.module}' has widths {coder.spec.d_in} and {coder.spec.d_out}, and the stream has "
                f"{d}: it was trained on another model; name one that was trained on this"
            )
        found[layer] = in_dtype(coder, dtype)
    return found


def in_dtype(coder: Coder, dtype: torch.dtype) -> Coder:
    """The coder itself, or a copy where its weights are of another type."""
    return coder if coder.W_enc.dtype == dtype else deepcopy(coder).to(dtype)


def _holds_nan(coder: Coder) -> bool:
    """Whether a weight is no number. In a sum, which is read once; where latents fire above a threshold, NaN hides."""
    totals = {name: weight.sum(dtype=torch.float32) for name, weight in coder.state_dict().items()}
    # A threshold may be infinite: that latent never fires.
    return any(bool(total.isnan() if name == "threshold" else ~total.isfinite()) for name, total in totals.items())
