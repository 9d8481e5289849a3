"""The central types: what flows between the rooms, all of it frozen."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from plainspoken.errors import RunError

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

    Of a sentence that could not be read: `column` (from 1, characters) and what was `expected` there. `kind`: which of
    the ways of failing it was, where failures are counted by that (those of a language model: `llm.requests.Fault`).
    """

    latent: int
    stage: str
    reason: str
    column: int | None = None
    expected: str | None = None
    kind: str | None = None


def _none() -> Int[np.ndarray, " m"]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Pairs:
    """(position, latent) pairs over some rows, sorted by position (row * t + column), then by latent; none twice."""

    position: Int[np.ndarray, " n"]
    latent: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.position)

    @staticmethod
    def sorted(position: Int[np.ndarray, " n"], latent: Int[np.ndarray, " n"]) -> "Pairs":
        """Pairs that are given in any order."""
        order = np.lexsort((latent, position))
        return Pairs(position[order], latent[order])

    def of(self, latents: Bool[np.ndarray, " latents"]) -> "Pairs":
        """Those of some latents."""
        mine = latents[self.latent]
        return Pairs(self.position[mine], self.latent[mine])

    def joined(self, other: "Pairs") -> "Pairs":
        """These and those of another, which has none of them."""
        return Pairs.sorted(
            np.concatenate([self.position, other.position]), np.concatenate([self.latent, other.latent])
        )

    def between(self, low: int, high: int) -> "Pairs":
        """Those at positions in [low, high), counted from low."""
        first, last = np.searchsorted(self.position, (low, high))
        return Pairs(self.position[first:last] - low, self.latent[first:last])


@dataclass(frozen=True, eq=False)
class Simulation:
    """Expected levels (0-9) of a site's latents at positions of some rows, sparse: what is not listed is level 0.

    Entries are sorted by `position` (row * t + column), then by latent; each (position, latent) stands at most once.
    `asked`: the tokens that the simulator was asked about (None: all); at the others nothing is known, which is not
    level 0. The pairs (`missing_position`, `missing_latent`), sorted likewise, were asked about and got no answer; none
    of them is an entry. `discarded`: for each latent the mean probability that its answers gave to anything but a
    level, NaN where that is not known (None: of no latent). `chance`: with what probability each token of a row was to
    be among those asked about, where they were drawn (None: they were not, and each stands for itself alone). `passed`:
    the pairs that a gate let through (None: there was no gate); no other was asked about, and those are level 0.
    """

    position: Int[np.ndarray, " n"]
    latent: Int[np.ndarray, " n"]
    level: Float[np.ndarray, " n"]
    latents: int
    rows: int
    t: int
    rows_fingerprint: str
    asked: Bool[np.ndarray, "rows t"] | None = None
    missing_position: Int[np.ndarray, " m"] = field(default_factory=_none)
    missing_latent: Int[np.ndarray, " m"] = field(default_factory=_none)
    discarded: Float[np.ndarray, " latents"] | None = None
    chance: Float[np.ndarray, " rows"] | None = None
    passed: Pairs | None = None

    @property
    def complete(self) -> bool:
        """Whether every token was asked about and every answer came."""
        return self.asked is None and not len(self.missing_position)

    def pairs_by_latent(
        self, tokens: Bool[np.ndarray, "rows t"]
    ) -> tuple[Int[np.ndarray, " latents"], Int[np.ndarray, " latents"]]:
        """(how many of a latent's pairs with these tokens were asked about, how many of those got no answer)."""
        among = tokens.ravel() if self.asked is None else (tokens & self.asked).ravel()
        lacks = np.bincount(self.missing_latent[among[self.missing_position]], minlength=self.latents)
        if self.passed is None:
            return np.full(self.latents, int(among.sum())), lacks
        return np.bincount(self.passed.latent[among[self.passed.position]], minlength=self.latents), lacks

    def between(self, first_row: int, last_row: int) -> "Simulation":
        """The rows [first_row, last_row) alone, positions counted from first_row; what was discarded is not known."""
        ends = first_row * self.t, last_row * self.t
        low, high = np.searchsorted(self.position, ends)
        first, last = np.searchsorted(self.missing_position, ends)
        return Simulation(
            self.position[low:high] - ends[0],
            self.latent[low:high],
            self.level[low:high],
            self.latents,
            last_row - first_row,
            self.t,
            f"{self.rows_fingerprint}[{first_row}:{last_row}]",
            None if self.asked is None else self.asked[first_row:last_row],
            self.missing_position[first:last] - ends[0],
            self.missing_latent[first:last],
            chance=None if self.chance is None else self.chance[first_row:last_row],
            passed=None if self.passed is None else self.passed.between(*ends),
        )

    def with_entries(
        self, position: Int[np.ndarray, " n"], latent: Int[np.ndarray, " n"], level: Float[np.ndarray, " n"]
    ) -> "Simulation":
        """The same with these entries, given in any order, in the place of its own."""
        order = np.lexsort((latent, position))
        return replace(self, position=position[order], latent=latent[order], level=level[order])

    def with_missing(self, position: Int[np.ndarray, " m"], latent: Int[np.ndarray, " m"]) -> "Simulation":
        """The same where these pairs, given in any order, got no answer, in the place of its own."""
        order = np.lexsort((latent, position))
        return replace(self, missing_position=position[order], missing_latent=latent[order])

    def with_latents_of(self, other: "Simulation", latents: Int[np.ndarray, " some"]) -> "Simulation":
        """This simulation with all that is said of some latents taken from another over the same rows.

        Raises RunError where the two were not asked about the same tokens, or one of them alone had a gate.
        """
        if not self.asks_like(other) or (self.passed is None) != (other.passed is None):
            raise RunError("two simulations of the same rows were asked about other tokens; redo with --force simulate")
        theirs = np.zeros(self.latents, bool)
        theirs[latents] = True
        kept, added = ~theirs[self.latent], theirs[other.latent]
        still, newly = ~theirs[self.missing_latent], theirs[other.missing_latent]
        mixed = self.with_entries(
            np.concatenate([self.position[kept], other.position[added]]),
            np.concatenate([self.latent[kept], other.latent[added]]),
            np.concatenate([self.level[kept], other.level[added]]),
        ).with_missing(
            np.concatenate([self.missing_position[still], other.missing_position[newly]]),
            np.concatenate([self.missing_latent[still], other.missing_latent[newly]]),
        )
        if self.passed is not None and other.passed is not None:
            mixed = replace(mixed, passed=self.passed.of(~theirs).joined(other.passed.of(theirs)))
        if self.discarded is None and other.discarded is None:
            return mixed
        unknown = np.full(self.latents, np.nan)
        mine, others = (unknown if each.discarded is None else each.discarded for each in (self, other))
        return replace(mixed, discarded=np.where(theirs, others, mine))

    def permuted(self, permutation: Int[np.ndarray, " latents"]) -> "Simulation":
        """Explanations handed round: latent l gets what was said about latent permutation[l]."""
        recipient = np.argsort(permutation)
        moved = self.with_entries(self.position, recipient[self.latent], self.level)
        moved = moved.with_missing(self.missing_position, recipient[self.missing_latent])
        if self.passed is not None:
            moved = replace(moved, passed=Pairs.sorted(self.passed.position, recipient[self.passed.latent]))
        return moved if self.discarded is None else replace(moved, discarded=self.discarded[permutation])

    def asked_only(
        self, asked: Bool[np.ndarray, "rows t"], chance: Float[np.ndarray, " rows"] | None = None
    ) -> "Simulation":
        """What would have been said, had no other token than these been asked about; what was discarded is not known.

        `chance`: with which they were drawn. For a simulation that was asked about every token.
        """
        assert self.asked is None, "what was not asked before cannot be asked now"
        kept, missing = asked.ravel()[self.position], asked.ravel()[self.missing_position]
        few = self.with_entries(self.position[kept], self.latent[kept], self.level[kept])
        few = few.with_missing(self.missing_position[missing], self.missing_latent[missing])
        return replace(few, asked=asked, discarded=None, chance=chance)

    def only_at(self, pairs: Pairs) -> "Simulation":
        """The same with level 0 at every pair that is not one of these."""
        among = pairs.position.astype(np.int64) * self.latents + pairs.latent
        kept = np.isin(self.position.astype(np.int64) * self.latents + self.latent, among)
        return self.with_entries(self.position[kept], self.latent[kept], self.level[kept])

    def asks_like(self, other: "Simulation") -> bool:
        """Whether both were asked about the same tokens."""
        return same_tokens(self.asked, other.asked)


def same_tokens(one: Shaped[np.ndarray, "..."] | None, other: Shaped[np.ndarray, "..."] | None) -> bool:
    """Whether two ways to say which tokens are asked about (None: all), or with what chance, are the same."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)
