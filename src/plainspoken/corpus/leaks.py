"""Evaluate text that also stands in the text that is fitted on: found by hashes of windows, and dropped.

A row of tokens is compared by the text that it spells, each stretch between tokens that start or end a text for
itself. Where one side is tokens and the other text, the text is compared as its tokens spell it, since a tokenizer may
normalise or drop characters.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt64

from plainspoken.corpus.document import Document
from plainspoken.corpus.pieces import Pieces
from plainspoken.corpus.rows import segments, text_ends
from plainspoken.corpus.tokenize import tokenize
from plainspoken.errors import CorpusError, CorpusWarning
from plainspoken.types import PARTS, Part

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
else:  # transformers takes half a second to import: only those who load a model wait for it
    PreTrainedTokenizerBase = object

WHOLE = 64
"""An evaluate document at least this long, characters, that stands in another is the same text and no chance."""
STRETCH = 200
"""So is any other text from this length on: a whole document that is fitted on, or one of several texts in a row of
tokens, which may be cut anywhere. Rows that one small model wrote share openings of 110 characters, never 160."""
_BASE = 0x9E3779B97F4A7C15
_CHUNK = 2**20


@dataclass(frozen=True)
class _Read:
    """A document as it is compared: its texts, white space made one space, and whether it is one text alone."""

    document: Document
    texts: tuple[str, ...]

    @property
    def whole(self) -> str:
        return "\0".join(self.texts)

    @property
    def shortest(self) -> int:
        """From how many characters on one of its texts, standing elsewhere, is no chance."""
        return WHOLE if len(self.texts) == 1 else STRETCH


def without_leaks(
    parts: Mapping[Part, list[Document]], tokenizer: PreTrainedTokenizerBase | None = None
) -> list[Document]:
    """The evaluate documents that share no text with a document of another part; warns with the count of the others.

    Shared is: the same text, of whatever length; an evaluate document of 64 characters or more that stands within a
    document that is fitted on; a document of 200 characters or more that is fitted on and stands within an evaluate
    document. White space does not matter. A stretch that two documents share, neither of them whole (a licence, a
    quotation), is not looked for. Without a tokenizer, tokens are compared with tokens alone, and as whole documents.
    Raises CorpusError where that leaves no evaluate document.
    """
    evaluate = parts["evaluate"]
    others = [document for part in PARTS if part != "evaluate" for document in parts[part]]
    held, fitted = _read(evaluate, others, tokenizer), _read(others, evaluate, tokenizer)
    leaked: dict[int, int] = {}
    for i, j in _shared(held, fitted):
        leaked.setdefault(i, j)
    if not leaked:
        return evaluate
    i, j = min(leaked.items())
    told = f"{len(leaked)} of {len(evaluate)} evaluate documents also stand in the text that is fitted on"
    example = f"'{evaluate[i].key}' in '{others[j].key}'"
    if len(leaked) == len(evaluate):
        raise CorpusError(f"{told} ({example}), which leaves none: name another --eval-corpus")
    example = f"'{evaluate[i].key}' (in '{others[j].key}')"
    warnings.warn(f"{told} and were dropped, such as {example}", CorpusWarning, stacklevel=3)
    return [document for i, document in enumerate(evaluate) if i not in leaked]


def _read(
    documents: Sequence[Document], beside: Sequence[Document], tokenizer: PreTrainedTokenizerBase | None
) -> list[_Read]:
    """The documents as they are compared with those beside them."""
    if tokenizer is None:
        return [
            _Read(document, (_normal(document.text) if document.text is not None else _as_hex(document),))
            for document in documents
        ]
    spell = partial(_spelled, Pieces.from_tokenizer(tokenizer))
    found: dict[int, tuple[str, ...]] = {}
    texts = [i for i, document in enumerate(documents) if document.text is not None]
    if any(document.tokens is not None for document in [*documents, *beside]):
        ids = tokenize(tokenizer, [documents[i].text or "" for i in texts])
        found |= {i: (spell(these),) for i, these in zip(texts, ids, strict=True)}
    else:
        found |= {i: (_normal(documents[i].text or ""),) for i in texts}
    ends = text_ends(tokenizer)
    for i, document in enumerate(documents):
        if document.tokens is not None:
            found[i] = tuple(filter(None, map(spell, segments(document.tokens, ends))))
    return [_Read(document, found[i]) for i, document in enumerate(documents)]


def _spelled(pieces: Pieces, tokens: np.ndarray) -> str:
    # Ids outside the vocabulary are refused by name when rows are built of them.
    known = tokens[(tokens >= 0) & (tokens < len(pieces.table))]
    # A row may begin and end inside a character.
    return _normal(pieces.text(known).strip("\ufffd"))


def _normal(text: str) -> str:
    return " ".join(text.split())


def _as_hex(document: Document) -> str:
    assert document.tokens is not None
    return "\0tokens" + np.asarray(document.tokens, np.int64).tobytes().hex()


def _shared(held: Sequence[_Read], fitted: Sequence[_Read]) -> Iterator[tuple[int, int]]:
    """(evaluate document, fitted document) that share text, by number; each evaluate document at least once."""
    whole: dict[str, int] = {}
    for j, read in enumerate(fitted):
        whole.setdefault(read.whole, j)
    yield from ((i, whole[read.whole]) for i, read in enumerate(held) if read.whole and read.whole in whole)
    held_texts = [(i, text, read.shortest) for i, read in enumerate(held) for text in read.texts]
    fitted_texts = [(j, text) for j, read in enumerate(fitted) for text in read.texts]
    hay = [text for _, text in fitted_texts]
    for window, longest in ((WHOLE, STRETCH), (STRETCH, None)):
        needles = [
            (i, text) for i, text, least in held_texts
            if len(text) >= max(window, least) and (longest is None or len(text) < longest)
        ]  # fmt: skip
        for needle, straw in _standing_in([text for _, text in needles], hay, window):
            yield needles[needle][0], fitted_texts[straw][0]
    long = [(j, text) for text, j in {text: j for j, text in fitted_texts if len(text) >= STRETCH}.items()]
    for needle, straw in _standing_in([text for _, text in long], [text for _, text, _ in held_texts], STRETCH):
        yield held_texts[straw][0], long[needle][0]


def _standing_in(needles: Sequence[str], hay: Sequence[str], window: int) -> Iterator[tuple[int, int]]:
    """(needle, straw) for needles of `window` characters or more that stand in some text of the hay, wherever in it.

    A needle is looked for by the hash of its middle window, since texts begin and end alike more often; each place
    where that hash stands in the hay is then compared in full.
    """
    if not needles:
        return
    begins = [(len(needle) - window) // 2 for needle in needles]
    middles = "".join(needle[b : b + window] for needle, b in zip(needles, begins, strict=True))
    hashes = _window_hashes(middles, window)[::window]
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    coarse = np.zeros(2**20, bool)  # most windows are told apart by 20 bits, without a search
    coarse[ordered >> np.uint64(44)] = True
    for first, chunk, starts in _joined(hay):
        found = _window_hashes(chunk, window)
        places = np.flatnonzero(coarse[found >> np.uint64(44)])
        low = np.searchsorted(ordered, found[places], "left")
        high = np.searchsorted(ordered, found[places], "right")
        hits = np.flatnonzero(high > low)
        straws = np.searchsorted(starts, places[hits], "right") - 1
        for hit, straw in zip(hits.tolist(), straws.tolist(), strict=True):
            for needle in order[low[hit] : high[hit]].tolist():
                begin = int(places[hit]) - begins[needle]
                text = needles[int(needle)]
                if begin >= 0 and chunk.startswith(text, begin):
                    yield needle, first + straw


def _joined(texts: Sequence[str]) -> Iterator[tuple[int, str, Int64[np.ndarray, " n"]]]:
    """(number of the first text, some texts in one string with a NUL between, where each begins), a chunk at a time."""
    first = 0
    while first < len(texts):
        last, size = first, 0
        while last < len(texts) and size < _CHUNK:
            size += len(texts[last]) + 1
            last += 1
        some = texts[first:last]
        starts = np.cumsum([0, *(len(text) + 1 for text in some[:-1])])
        yield first, "\0".join(some), starts.astype(np.int64)
        first = last


def _window_hashes(text: str, window: int) -> UInt64[np.ndarray, " n"]:
    """A hash of every window of the text: Σ c[i + j] B^j modulo 2^64, mixed; none where the text is shorter.

    By prefix sums: the window's sum is B^-i times the difference of two of them, B being odd.
    """
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    n = len(characters)
    if n < window:
        return np.zeros(0, np.uint64)
    inverse = pow(_BASE, -1, 2**64)
    sums = np.zeros(n + 1, np.uint64)
    np.cumsum(characters * _powers(_BASE, n), out=sums[1:])
    hashes = (sums[window:] - sums[:-window]) * _powers(inverse, n - window + 1)
    return (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def _powers(base: int, n: int) -> UInt64[np.ndarray, " n"]:
    factors = np.full(n, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)
