"""Documents to rows of tokens: cut, never glued."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int32, Integer

from plainspoken.corpus.document import Document
from plainspoken.corpus.split import hash_order
from plainspoken.corpus.tokenize import tokenize
from plainspoken.errors import CorpusError, LeakError
from plainspoken.types import Part, Rows

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
else:  # transformers takes half a second to import: only those who load a model wait for it
    PreTrainedTokenizerBase = object

Bos = Literal["auto", "row", "never"]

# Characters tokenized at a time: what a cap leaves unused of the last batch is the only text tokenized in vain.
_BATCH = 500_000


def build_rows(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    part: Part,
    bos: Bos = "auto",
    max_tokens: int = 0,
    rows_per_document: int = 0,
    seed: int = 0,
    vocabulary: int | None = None,
) -> Rows:
    """Rows of `context` tokens, each from one document, the last of a document padded.

    `bos`: "row" starts every row with the tokenizer's BOS token, which takes one of the `context` places; "never" adds
    none; "auto" is "row" where the tokenizer has one. Text is tokenized without special tokens; a token document is cut
    at every BOS, EOS and padding token it holds, since what follows is another text.

    Documents come in hash order (`seed` chooses which) until `max_tokens` tokens of text (0: all) are reached; the last
    one is cut at a whole row. `rows_per_document` (0: all) keeps that many rows of each, spread evenly over it, so that
    a few long documents do not stand for all. Only as much text is tokenized as the cap needs.

    Raises CorpusError for less text than one row holds, ids outside the `vocabulary` (default: the tokenizer's), or
    bos="row" without a BOS token.
    """
    if not documents:
        raise CorpusError(f"no document falls to the part '{part}': give more documents, or name others for it")
    start = _bos_id(tokenizer, bos)
    width = context - (start is not None)
    if width < 1:
        raise CorpusError(f"a context of {context} leaves no place for text: set corpus.context to 2 or more")
    ordered = sorted(documents, key=lambda document: (hash_order(document.hashed, seed), document.key))
    keys: list[str] = []
    cuts: list[Int32[np.ndarray, " t"]] = []
    owner: list[int] = []
    total, capped = 0, False
    for key, ids in _tokenized(ordered, tokenizer, vocabulary or len(tokenizer)):
        wanted = _cut(ids, width, rows_per_document)
        taken = _within(wanted, max_tokens - total) if max_tokens else wanted
        if taken:
            owner += [len(keys)] * len(taken)
            keys.append(key)
            cuts += taken
            total += sum(map(len, taken))
        capped = len(taken) < len(wanted) or total == max_tokens > 0
        if capped:
            break
    if total < width and not (capped and total):
        raise CorpusError(
            f"the part '{part}' gives {total:,} tokens of text from {len(documents):,} documents, less than one row of "
            f"{width:,}: give more text" + (f", raise its cap of {max_tokens:,} tokens," if capped else "") + " or set "
            "corpus.context lower"
        )
    return _assemble(cuts, owner, keys, context, start, part)


def require_part(rows: Rows, *allowed: Part) -> None:
    """Raises LeakError unless the rows belong to one of the parts that this use is allowed."""
    if rows.part not in allowed:
        raise LeakError(
            f"rows of the part '{rows.part}' were given where only {' or '.join(map(repr, allowed))} may be used: "
            "what is measured on documents that were fitted on says nothing; pass the rows of the right part"
        )


def _bos_id(tokenizer: PreTrainedTokenizerBase, bos: Bos) -> int | None:
    if bos == "never":
        return None
    if bos == "row" and _token_id(tokenizer, "bos") is None:
        raise CorpusError("corpus.bos is 'row' but the tokenizer has no BOS token: set corpus.bos to 'auto' or 'never'")
    return _token_id(tokenizer, "bos")


def _token_id(tokenizer: PreTrainedTokenizerBase, name: str) -> int | None:
    """The id of the tokenizer's "bos", "eos" or "pad" token."""
    index = getattr(tokenizer, f"{name}_token_id", None)
    return index if isinstance(index, int) else None


def _tokenized(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, vocabulary: int
) -> Iterator[tuple[str, Int32[np.ndarray, " t"]]]:
    """(key, token ids) of each document in order, text tokenized a batch ahead; empty ones are left out."""
    ends = text_ends(tokenizer)
    for batch in _batches(documents):
        texts = iter(tokenize(tokenizer, [document.text for document in batch if document.text is not None]))
        for document in batch:
            if document.tokens is None:
                ids = next(texts)
                if len(ids):
                    yield document.key, ids
            else:
                _check_ids(document, vocabulary)
                for i, ids in enumerate(segments(document.tokens, ends)):
                    yield f"{document.key}+{i}" if i else document.key, ids


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += document.size
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_ids(document: Document, vocabulary: int) -> None:
    tokens = document.tokens
    assert tokens is not None
    bad = np.flatnonzero((tokens < 0) | (tokens >= vocabulary))
    if len(bad):
        raise CorpusError(
            f"{document.key}: token id {int(tokens[bad[0]])} at position {int(bad[0])} is outside the vocabulary of "
            f"{vocabulary:,}: these tokens were made with another tokenizer"
        )


def text_ends(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that start, end or pad a text."""
    return {index for name in ("bos", "eos", "pad") if (index := _token_id(tokenizer, name)) is not None}


def segments(tokens: Integer[np.ndarray, " t"], ends: set[int]) -> list[Int32[np.ndarray, " _"]]:
    """The texts in a sequence of tokens: what stands between tokens that start, end or pad a text."""
    borders = np.flatnonzero(np.isin(tokens, list(ends)))
    segments = np.split(tokens.astype(np.int32), borders)
    return [kept for i, segment in enumerate(segments) if len(kept := segment[1:] if i else segment)]


def _cut(ids: Int32[np.ndarray, " t"], width: int, most: int) -> list[Int32[np.ndarray, " _"]]:
    """A document's rows in order: all, or `most` (0: all) spread evenly over it."""
    starts = range(0, len(ids), width)
    if most and len(starts) > most:
        starts = [starts[i] for i in np.linspace(0, len(starts) - 1, most).round().astype(int)]
    return [ids[start : start + width] for start in starts]


def _within(rows: list[Int32[np.ndarray, " _"]], left: int) -> list[Int32[np.ndarray, " _"]]:
    """The first of the rows, as many as hold at most `left` tokens together."""
    return [row for row, so_far in zip(rows, accumulate(map(len, rows)), strict=True) if so_far <= left]


def _assemble(
    cuts: list[Int32[np.ndarray, " _"]], owner: list[int], keys: list[str], context: int, start: int | None, part: Part
) -> Rows:
    # Any id can pad: the mask is False there and a causal model never looks ahead. BOS spells nothing.
    tokens = np.full((len(cuts), context), start if start is not None else 0, np.int32)
    mask = np.zeros((len(cuts), context), bool)
    begin = int(start is not None)
    for r, row in enumerate(cuts):
        tokens[r, begin : begin + len(row)] = row
        mask[r, begin : begin + len(row)] = True
    return Rows(tokens, mask, np.array(owner, np.int32), tuple(keys), part)


def spread(rows: Rows, tokens: int) -> Rows:
    """Rows of at most so many tokens (but one row at least), in order: of every document first the middle one.

    A document's start is unlike the rest of it, and the first documents' every row would be few documents.
    """
    _, first, document, length = np.unique(rows.document, return_index=True, return_inverse=True, return_counts=True)
    from_middle = np.abs(np.arange(len(rows.tokens)) - (first + length // 2)[document])
    order = np.argsort(from_middle, kind="stable")
    fit = int(np.searchsorted(np.cumsum(rows.mask.sum(axis=1)[order]), tokens, side="right"))
    some = np.sort(order[: max(1, fit)])
    return Rows(rows.tokens[some], rows.mask[some], rows.document[some], rows.keys, rows.part)
