"""The central types: what flows between the rooms, all of it frozen."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

Part = Literal["fit", "explain", "calibrate", "evaluate"]
PARTS: tuple[Part, ...] = get_args(Part)

SiteKind = Literal["mlp", "resid"]


@dataclass(frozen=True)
class Site:
    """Where we read and write: a module of the language model.

    `mlp` reads the module's input (after its norm) and writes its output; `resid` reads and writes the output, of a
    decoder layer (the residual stream) or, for an SAE, of an FFN.
    """

    module: str
    kind: SiteKind
    d_in: int
    d_out: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Documents of one part as rows of tokens; a row never holds text of two documents.

    `mask` is True on tokens of the text, False on the BOS that starts a row and on the padding that ends it.
    `document[r]` indexes `keys`.
    """

    tokens: Int[np.ndarray, "row t"]
    mask: Bool[np.ndarray, "row t"]
    document: Int[np.ndarray, " row"]
    keys: tuple[str, ...]
    part: Part

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over tokens, mask and documents: two tables over the same rows agree in it."""
        digest = hashlib.sha256(f"{self.part} {self.tokens.shape}".encode())
        for array, dtype in ((self.tokens, np.int32), (self.mask, np.bool_), (self.document, np.int32)):
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        return digest.hexdigest()

    @property
    def token_count(self) -> int:
        """Tokens of text: neither BOS nor padding."""
        return int(self.mask.sum())


@dataclass(frozen=True)
class Explanation:
    """Text about a latent. `words`: whitespace-separated pieces, every quoted token counting as at least one."""

    latent: int
    text: str
    words: int
    explainer: str
    prompt_hash: str | None = None


@dataclass(frozen=True)
class Failure:
    """What could not be done for a latent, at which stage and why. Never a plausible value.

    Of a sentence that could not be read: `column` (from 1, characters) and what was `expected` there.
    """

    latent: int
    stage: str
    reason: str
    column: int | None = None
    expected: str | None = None


@dataclass(frozen=True, eq=False)
class Simulation:
    """Expected levels (0-9) of a site's latents at positions of some rows, sparse: what is not listed is level 0.

    Entries are sorted by `position` (row * t + column), then by latent; each (position, latent) stands at most once.
    """

    position: Int[np.ndarray, " n"]
    latent: Int[np.ndarray, " n"]
    level: Float[np.ndarray, " n"]
    latents: int
    rows: int
    t: int
    rows_fingerprint: str

    def between(self, first_row: int, last_row: int) -> "Simulation":
        """The rows [first_row, last_row) alone, positions counted from first_row."""
        low, high = np.searchsorted(self.position, (first_row * self.t, last_row * self.t))
        return Simulation(
            self.position[low:high] - first_row * self.t,
            self.latent[low:high],
            self.level[low:high],
            self.latents,
            last_row - first_row,
            self.t,
            f"{self.rows_fingerprint}[{first_row}:{last_row}]",
        )

    def with_entries(
        self, position: Int[np.ndarray, " m"], latent: Int[np.ndarray, " m"], level: Float[np.ndarray, " m"]
    ) -> "Simulation":
        """A simulation of as many latents over the same rows with these entries, given in any order."""
        order = np.lexsort((latent, position))
        found = position[order], latent[order], level[order]
        return Simulation(*found, self.latents, self.rows, self.t, self.rows_fingerprint)

    def with_latents_of(self, other: "Simulation", latents: Int[np.ndarray, " some"]) -> "Simulation":
        """This simulation with all that is said of some latents taken from another over the same rows."""
        theirs = np.zeros(self.latents, bool)
        theirs[latents] = True
        kept, added = ~theirs[self.latent], theirs[other.latent]
        return self.with_entries(
            np.concatenate([self.position[kept], other.position[added]]),
            np.concatenate([self.latent[kept], other.latent[added]]),
            np.concatenate([self.level[kept], other.level[added]]),
        )
