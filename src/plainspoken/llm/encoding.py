"""Texts into token ids; what a long text has in common with the one before it is not encoded again.

The prompts of a simulator are thousands of characters, of which a few change from one to the next. A text is taken
apart behind a line break where neither side can change the other: no token of the vocabulary spells a line break and
the character after it, so that none lies across; both texts have that line's beginning in common, so that what a
tokenizer's rules see of the other side is the same; and the first tokens behind it have to come out as they did before.
Where any of this fails the whole text is encoded.
"""

import re
import threading
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from plainspoken.corpus.pieces import Pieces, backend_of

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
else:  # transformers takes half a second to import: only those who load a tokenizer wait for it
    PreTrainedTokenizerBase = object

Ids = tuple[int, ...]
LONG = 256
"""Characters from which on a text is remembered."""
_MOST = 4
"""Tokens behind the cut that are compared with those of the text before."""
_BREAK = "\n"
_LINE = re.compile(rb"\n[!-~]")
_ENCODING = threading.Lock()  # whether special tokens are read as text is a state of the tokenizer, not of the call


@dataclass(frozen=True)
class _Known:
    """A text, its ids, and the character at which each of their tokens begins."""

    text: str
    ids: Ids
    starts: list[int]


class Encoder:
    """What the tokenizer makes of texts, the same ids as if each were encoded by itself."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, pieces: Pieces) -> None:
        self._tokenizer, self._backend = tokenizer, backend_of(tokenizer)
        self._pieces = pieces
        self._known: dict[bool, _Known] = {}

    def ids(self, text: str, special: bool = False) -> Ids:
        """The text as a tokenizer begins one; no tokens are put around it. `special`: what spells a special token is
        one, else it is text."""
        if len(text) < LONG or not self._parts_at_breaks:
            return tuple(self._encode(text, special).ids)
        before = self._known.get(special)
        found = self._gone_on(before, text, special) if before is not None else None
        if found is None:
            whole = self._encode(text, special)
            found = _Known(text, tuple(whole.ids), [start for start, _ in whole.offsets])
        self._known[special] = found
        return found.ids

    def whole(self, text: str) -> Ids:
        """The text with the tokens that the tokenizer puts before and behind a whole one."""
        with _ENCODING:
            told = self._tokenizer(text, add_special_tokens=True, split_special_tokens=True, verbose=False)
        return tuple(told["input_ids"])

    def _gone_on(self, before: _Known, text: str, special: bool) -> _Known | None:
        """The text by way of the one before; None where they have no place in common to take it apart at."""
        common = _shared(before.text, text)
        cut = self._cut(before, common)
        if cut is None:
            return None
        at = bisect_left(before.starts, cut)
        rest = self._encode(_BREAK + text[cut:], special)
        ids, skipped = rest.ids, self._break[special]
        if ids[: len(skipped)] != skipped:
            return None
        ids = ids[len(skipped) :]
        # The last token that lies in both may be another one's beginning in either.
        alike = min(_MOST, bisect_left(before.starts, common) - at - 1)
        if ids[:alike] != list(before.ids[at : at + alike]):
            return None
        starts = [start + cut - len(_BREAK) for start, _ in rest.offsets[len(skipped) :]]
        return _Known(text, before.ids[:at] + tuple(ids), before.starts[:at] + starts)

    def _cut(self, before: _Known, common: int) -> int | None:
        """The last beginning of a line, and of a token, of which at least a token more lies in what is in common."""
        text, starts = before.text, before.starts
        cut = text.rfind(_BREAK, 0, common) + 1
        while cut:
            at = bisect_left(starts, cut)
            begins = at + 1 < len(starts) and starts[at] == cut and starts[at + 1] < common
            if begins and " " < text[cut] <= "~":
                return cut
            cut = text.rfind(_BREAK, 0, cut - 1) + 1
        return None

    @cached_property
    def _break(self) -> dict[bool, list[int]]:
        """A line break as a tokenizer begins a text with it."""
        return {special: self._encode(_BREAK, special).ids for special in (False, True)}

    @cached_property
    def _parts_at_breaks(self) -> bool:
        """Whether no token spells a line break and then a printable ASCII character that is no blank."""
        added = [token.content.encode() for token in self._backend.get_added_tokens_decoder().values()]
        return not any(_LINE.search(piece) for piece in (*self._pieces.table, *added))

    def _encode(self, text: str, special: bool) -> "Encoding":
        with _ENCODING:
            # As transformers sets it before it encodes: what a tokenizer was saved with or last used for is not ours.
            if self._backend.truncation is not None:
                self._backend.no_truncation()
            if self._backend.padding is not None:
                self._backend.no_padding()
            if self._backend.encode_special_tokens == special:
                self._backend.encode_special_tokens = not special
            return self._backend.encode(text, add_special_tokens=False)


def _shared(a: str, b: str) -> int:
    """How many characters two texts begin with in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low
