"""Keys and values of the last prompt's prefix, kept so that a next one that begins alike computes only what is new."""

from typing import Any

import torch

from plainspoken.llm.prefixes import shared
from plainspoken.llm.tokens import Ids
from plainspoken.lm.load import LanguageModel


class KeptPrefix:
    """The cache of one prefix, of a model in process."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._kept: tuple[Ids, Any] | None = None

    def through(self, prefix: Ids) -> tuple[Any, int]:
        """A cache that holds exactly the prefix, not to be written to, and how many of its tokens were computed."""
        from transformers.cache_utils import DynamicCache

        known, cache = 0, None
        if self._kept is not None:
            kept, cache = self._kept
            known = shared(kept, prefix)
            if known < len(kept) and not _croppable(cache):
                known = 0
            elif 0 < known < len(kept):
                cache.crop(known - len(kept))
        self._kept = None
        if not known:
            cache = DynamicCache(config=self._lm.model.config)
        if known < len(prefix):
            ids = torch.tensor([prefix[known:]], device=self._lm.device)
            self._lm.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._kept = (prefix, cache)
        return cache, len(prefix) - known

    def drop(self) -> None:
        """Let go of it."""
        self._kept = None


def _croppable(cache: Any) -> bool:
    """Whether every layer keeps all positions: a sliding window or a recurrent state cannot go back."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in cache.layers)
