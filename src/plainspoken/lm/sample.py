"""Text sampled from the model itself: a corpus for a model that has none at hand."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32

from plainspoken.corpus.document import Document
from plainspoken.corpus.sources import token_documents
from plainspoken.errors import CorpusError
from plainspoken.lm.draw import draw
from plainspoken.lm.load import LanguageModel

_SELF = re.compile(r"self:(\d+)x(\d+)")
# Key-value entries (row times position) of a batch on the CPU: wide enough that overhead vanishes, small enough for its
# cache. A GPU takes more.
_BATCH_TOKENS = {"cpu": 65_536, "cuda": 1_048_576}


def self_documents(
    lm: LanguageModel, source: str, seed: int = 0, progress: Callable[[int], object] | None = None
) -> Iterator[Document]:
    """The documents of "self:ROWSxTOKENS": that many rows sampled from the model, each row a token document.

    Raises CorpusError for a source of another form, for rows longer than the model's context, and for a model whose
    tokenizer says no token that starts a text.
    """
    rows, t = parse_self(source)
    return token_documents(sample_rows(lm, rows, t, seed, progress=progress), f"self-{seed}")


def parse_self(source: str) -> tuple[int, int]:
    """(rows, tokens a row) of "self:ROWSxTOKENS". Raises CorpusError where it is not of that form."""
    form = _SELF.fullmatch(source)
    if form is None or int(form[1]) < 1 or int(form[2]) < 2:
        raise CorpusError(f"'{source}' is no request for samples: write self:ROWSxTOKENS, such as self:3072x256")
    return int(form[1]), int(form[2])


def require_samples(lm: LanguageModel, source: str) -> None:
    """Raises CorpusError where `self_documents` would, before anything is sampled."""
    _check_length(lm, parse_self(source)[1])
    _start_token(lm)


@torch.inference_mode()
def sample_rows(
    lm: LanguageModel,
    rows: int,
    t: int,
    seed: int,
    temperature: float = 1.0,
    progress: Callable[[int], object] | None = None,
) -> Int32[np.ndarray, "rows t"]:
    """Rows of t tokens, each begun by the token that starts a text and sampled from there at the temperature.

    Batched, with the keys and values of earlier positions kept. Each token is drawn by inverting the distribution
    function at a uniform number that belongs to (seed, row, position): the size of batches does not matter, and fewer
    rows are the first of more. A row goes on after an end of text: `build_rows` cuts it there. `progress` is told how
    many more rows are done, a row of a batch in which half the tokens are drawn counting as half a row. What is spliced
    into the model is sampled from.
    Raises CorpusError as `self_documents` does.
    """
    _check_length(lm, t)
    if temperature <= 0:
        raise CorpusError(f"a temperature of {temperature} gives one text only: sample at one above 0")
    begin = _start_token(lm)
    size = max(1, _BATCH_TOKENS.get(lm.device.type, _BATCH_TOKENS["cpu"]) // t)
    out = np.full((rows, t), begin, np.int32)
    generator = np.random.default_rng(seed)
    for first in range(0, rows, size):
        batch = min(size, rows - first)
        uniform = torch.from_numpy(generator.random((batch, t))).to(lm.device)
        cache = _new_cache(lm, t)
        tokens = torch.full((batch, 1), begin, device=lm.device)
        for position in range(1, t):
            answer = lm.model(tokens, past_key_values=cache, use_cache=True)
            cache = answer.past_key_values
            tokens = draw(answer.logits[:, -1].double() / temperature, uniform[:, position])[:, None]
            out[first : first + batch, position] = tokens[:, 0].cpu().numpy()
            if progress is not None:
                progress(batch * position // (t - 1) - batch * (position - 1) // (t - 1))
    return out


def _check_length(lm: LanguageModel, t: int) -> None:
    if t > lm.context:
        raise CorpusError(f"rows of {t} tokens are longer than the context of {lm.name}: ask for {lm.context} or fewer")


def _start_token(lm: LanguageModel) -> int:
    """BOS, or the token that ends texts where (as in Qwen) the same one stands between them."""
    for index in (lm.bos_id, lm.tokenizer.eos_token_id):
        if isinstance(index, int):
            return index
    raise CorpusError(f"the tokenizer of {lm.name} names no token that starts a text: give a corpus instead of self:")


def _new_cache(lm: LanguageModel, t: int) -> Any:
    """A cache that is filled in place, twice as fast on long rows; None where the architecture has its own."""
    from transformers.cache_utils import StaticCache

    if getattr(lm.model, "_can_compile_fullgraph", False):
        return StaticCache(config=lm.model.config, max_cache_len=t)
    return None
