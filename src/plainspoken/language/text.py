"""Text as explainers and simulators are given it: tokens, what they spell, and how a reader sees them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from plainspoken.language.reading import Reading, read_rows
from plainspoken.types import Rows


def read(rows: Rows, pieces: Sequence[bytes]) -> Reading:
    """The reading of the rows."""
    return read_rows(rows.tokens, rows.mask, pieces)


@dataclass(frozen=True, eq=False)
class Text:
    """Rows of tokens, and the bytes that each token id adds to the text (`corpus.pieces.Pieces.table`).

    `how`: what makes the reading; to be given where the work is to be shown as it goes on.
    """

    rows: Rows
    pieces: Sequence[bytes]
    how: Callable[[Rows, Sequence[bytes]], Reading] = read

    @cached_property
    def reading(self) -> Reading:
        """The rows as a reader sees them: made when first asked for, and once, whoever asks."""
        return self.how(self.rows, self.pieces)
