"""Text to token ids, in batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int32

from plainspoken.corpus.pieces import backend_of

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
else:  # transformers takes half a second to import: only those who load a model wait for it
    PreTrainedTokenizerBase = object


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Int32[np.ndarray, " t"]]:
    """Token ids of each text, all of it and nothing else: no BOS is added, and "<s>" in a text is three characters.

    Raises ModelError for a tokenizer that is not backed by the tokenizers library.
    """
    backend = backend_of(tokenizer)
    with _everything_is_text(backend), _untruncated(backend):
        encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, np.int32) for encoding in encodings]


@contextmanager
def _everything_is_text(backend) -> Iterator[None]:
    """Special tokens spelled out in a text are read as the characters they are, not as the tokens."""
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        yield
    finally:
        backend.encode_special_tokens = before


@contextmanager
def _untruncated(backend) -> Iterator[None]:
    """A tokenizer saved with truncation or padding switched on would silently cut or lengthen documents."""
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield
    finally:
        if truncation:
            backend.enable_truncation(**truncation)
        if padding:
            backend.enable_padding(**padding)
