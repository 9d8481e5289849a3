"""Documents to the four parts, with nothing of the evaluate part left in the others."""

import heapq
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from plainspoken.corpus.document import Document
from plainspoken.corpus.leaks import without_leaks
from plainspoken.corpus.rows import Bos, build_rows
from plainspoken.corpus.split import hash_order, part_of
from plainspoken.errors import CorpusError
from plainspoken.types import PARTS, Part, Rows

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
else:  # transformers takes half a second to import: only those who load a model wait for it
    PreTrainedTokenizerBase = object

# No tokenizer in use spends more characters a token on running text; kept documents are at least what a cap needs.
_CHARACTERS_PER_TOKEN = 12


def build_parts(
    documents: Iterable[Document],
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    evaluate_documents: Iterable[Document] | None = None,
    bos: Bos = "auto",
    max_tokens: Mapping[Part, int] | None = None,
    rows_per_document: Mapping[Part, int] | None = None,
    seed: int = 0,
    vocabulary: int | None = None,
) -> dict[Part, Rows]:
    """The rows of every part: `split_corpus`, then `build_rows` on each, with that part's caps (0 or absent: none).

    Raises CorpusError where a part has less text than one row.
    """
    caps: dict[Part, int] = dict(max_tokens or {})
    most: dict[Part, int] = dict(rows_per_document or {})
    keep: dict[Part, int] = {part: cap * _CHARACTERS_PER_TOKEN for part, cap in caps.items()}
    # Of a document that gives n rows, n-1 are full for sure: that much it counts for towards the cap.
    most_of_one: dict[Part, int] = {
        part: max(rows - 1, 1) * (context - 1) * _CHARACTERS_PER_TOKEN for part, rows in most.items() if rows
    }
    split = split_corpus(
        documents, evaluate_documents, keep=keep, most_of_one=most_of_one, seed=seed, tokenizer=tokenizer
    )
    return {
        part: build_rows(
            split[part], tokenizer, context=context, part=part, bos=bos, max_tokens=caps.get(part, 0),
            rows_per_document=most.get(part, 0), seed=seed, vocabulary=vocabulary,
        )
        for part in PARTS
    }  # fmt: skip


def split_corpus(
    documents: Iterable[Document],
    evaluate_documents: Iterable[Document] | None = None,
    *,
    keep: Mapping[Part, int] | None = None,
    most_of_one: Mapping[Part, int] | None = None,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> dict[Part, list[Document]]:
    """Every document in the part that its hash says, each part in hash order.

    `evaluate_documents`, where given, are the whole of the evaluate part, and `documents` are shared among the other
    three. `keep`: the size (characters, or tokens of token documents) after which no more documents of a part are kept,
    so that a corpus larger than memory can be read: those first in hash order are kept. `most_of_one`: the size that
    one document counts for at most.

    An evaluate document that shares its text with a document of another part, as `leaks.without_leaks` has it, is
    dropped, with a CorpusWarning that counts them; the tokenizer lets tokens and text be compared.
    Raises CorpusError where a part is left without a document.
    """
    keep, most_of_one = keep or {}, most_of_one or {}
    kept: dict[Part, _Kept] = {part: _Kept(keep.get(part, 0), most_of_one.get(part, 0), seed) for part in PARTS}
    for document in documents:
        kept[part_of(document.hashed, evaluate_elsewhere=evaluate_documents is not None)].add(document)
    for document in evaluate_documents or ():
        kept["evaluate"].add(document)
    parts: dict[Part, list[Document]] = {part: kept[part].finish() for part in PARTS}
    count = sum(map(len, parts.values()))
    for part, chosen in parts.items():
        if not chosen:
            raise CorpusError(
                f"none of the {count} documents falls to the part '{part}': give more documents "
                "(a text file can hold several, divided by lines of <|endoftext|>)"
                + (", or a corpus of its own with --eval-corpus" if part == "evaluate" else "")
            )
    parts["evaluate"] = without_leaks(parts, tokenizer)
    return parts


class _Kept:
    """The documents of a part that come first in hash order, together at least `size` large (0: all)."""

    def __init__(self, size: int, most_of_one: int, seed: int) -> None:
        self.size, self.most_of_one, self.seed = size, most_of_one, seed
        self.total = self.count = 0
        self.heap: list[tuple[bytes, int, Document]] = []

    def add(self, document: Document) -> None:
        # Python's heap gives the smallest first, and here the last in order has to go first.
        order = bytes(255 - byte for byte in hash_order(document.hashed, self.seed))
        heapq.heappush(self.heap, (order, self.count, document))
        self.count += 1
        self.total += self.weight(document)
        while self.size and self.total - self.weight(self.heap[0][2]) >= self.size:
            self.total -= self.weight(heapq.heappop(self.heap)[2])

    def weight(self, document: Document) -> int:
        return min(document.size, self.most_of_one) if self.most_of_one else document.size

    def finish(self) -> list[Document]:
        documents = [entry[2] for entry in self.heap]
        return sorted(documents, key=lambda document: (hash_order(document.hashed, self.seed), document.key))
