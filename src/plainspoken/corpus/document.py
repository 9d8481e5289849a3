"""A document: the unit that is split, paired and never glued to another."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer


@dataclass(frozen=True, eq=False)
class Document:
    """One text, or one sequence of token ids, with the name that messages and cards give it.

    `identity` is what the split hashes. A file's identity is its path below the corpus (the empty string stands for
    the key); a record's is a digest of its content, so that neither the order of records nor their number moves a
    document to another part, and two copies of one text always fall to the same part.
    """

    key: str
    text: str | None = None
    tokens: Integer[np.ndarray, " t"] | None = None
    identity: str = ""

    def __post_init__(self) -> None:
        assert (self.text is None) != (self.tokens is None), f"{self.key}: a document is text or tokens, not both"

    @property
    def hashed(self) -> str:
        """The string that the split hashes."""
        return self.identity or self.key

    @property
    def size(self) -> int:
        """Characters of text, or tokens: what a document weighs before it is tokenized."""
        return len(self.text) if self.text is not None else len(self.tokens)  # pyright: ignore[reportArgumentType]
