"""A study of one latent that may not look at everything: its log, and what may be seen at each moment of it.

In a *blind* study the text of prompts and examples is hidden, and the run's own sentence: what may be used are weights,
and circuits in which tokens are known by their places alone. In a *restricted* one all that layer 0's FFN does at a
prompt is hidden as well, and de-embeddings of its latents, which often just name a token (Dunefsky et al., arXiv
2406.11944, section 5.2). Hypotheses are written down before anything is revealed, so that they can be wrong.

The log is a chain: every entry holds the hash of the one before. Beside it stands how long it was when last written
(`Head`), so that an end that was cut off is missed. Who rewrites all of it anew can still forge it; a hash that was
noted down elsewhere would tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from plainspoken.errors import StoreError, UsageError
from plainspoken.store.manifest import digest

Kind = Literal["open", "look", "hypothesis", "reveal", "score"]
Look = Literal["weights", "promoted", "sources", "targets", "deembedding", "circuit"]
Reveal = Literal["examples", "prompts", "explanation", "everything"]
LOOKS: tuple[Look, ...] = get_args(Look)
REVEALS: tuple[Reveal, ...] = get_args(Reveal)
START = "0" * 64
"""What the first entry holds in the place of a hash."""
_FIELDS = {"number", "at", "kind", "what", "previous", "sha256"}


@dataclass(frozen=True)
class Entry:
    """One thing that was done. `what`: of a look what was looked at, of a hypothesis its text; never what is hidden."""

    number: int
    at: str
    """ISO 8601 with offset."""
    kind: Kind
    what: Mapping[str, Any]
    previous: str
    """Hash of the entry before."""

    @property
    def sha256(self) -> str:
        """Hash of all of this."""
        return digest(asdict(self))

    def record(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {**asdict(self), "sha256": self.sha256}


@dataclass(frozen=True)
class Head:
    """How many entries there were when the log was last written, and the last one's hash."""

    entries: int
    sha256: str


@dataclass(frozen=True)
class Known:
    """What had been seen at some moment: reveals, and looks, in their order; whether a score had been told."""

    restricted: bool
    revealed: tuple[Reveal, ...] = ()
    looks: tuple[str, ...] = ()
    scored: bool = False

    @property
    def tokens_hidden(self) -> bool:
        """Whether the text of prompts is."""
        return not {"prompts", "everything"} & {*self.revealed}

    @property
    def layer_0_hidden(self) -> bool:
        """Whether what layer 0's FFN does at a prompt is, and what its latents' encoders answer to."""
        return self.restricted and "everything" not in self.revealed

    @property
    def told(self) -> str:
        """In words: blind, restricted, or after what; and whether scores had been told."""
        kept = "restricted" if self.restricted else "blind"
        state = f"after {', '.join(dict.fromkeys(self.revealed))}" if self.revealed else kept
        return f"{state}, scores known" if self.scored else state


@dataclass(frozen=True)
class StudyLog:
    """All entries, the one that opened the study first."""

    entries: tuple[Entry, ...]

    @property
    def opened(self) -> Mapping[str, Any]:
        """What the study is of, as it was opened."""
        return self.entries[0].what

    @property
    def head(self) -> Head:
        """Of this log."""
        return Head(len(self.entries), self.entries[-1].sha256)

    def known(self, before: int | None = None) -> Known:
        """What had been seen before the entry of this number; None: by now."""
        done = self.entries[:before]
        return Known(
            bool(self.opened["restricted"]),
            tuple(entry.what["reveal"] for entry in done if entry.kind == "reveal"),
            tuple(look_words(entry.what) for entry in done if entry.kind == "look"),
            any(entry.kind == "score" for entry in done),
        )

    def followed_by(self, kind: Kind, what: Mapping[str, Any], at: str) -> "StudyLog":
        """The log with one more entry."""
        return StudyLog((*self.entries, Entry(len(self.entries), at, kind, what, self.entries[-1].sha256)))


def opened_log(what: Mapping[str, Any], at: str) -> StudyLog:
    """A log of one entry."""
    return StudyLog((Entry(0, at, "open", what, START),))


def look_words(what: Mapping[str, Any]) -> str:
    """A look as it is told: `circuit of 2/17 on prompt 1`."""
    prompt = f" on prompt {what['prompt']}" if what.get("prompt") is not None else ""
    return f"{what['look']} of {what['latent']}{prompt}"


def require_visible(known: Known, look: Look, layer: int) -> None:
    """Raises UsageError for a look at something of a latent of this layer that is hidden by now."""
    if not known.layer_0_hidden or layer != 0:
        return
    if look == "deembedding":
        raise UsageError(
            "hidden: this study is restricted, and the latent is of layer 0, whose de-embeddings name tokens; write "
            "your hypothesis down first, then: plainspoken study reveal FOLDER everything"
        )
    if look == "circuit":
        raise UsageError(
            "hidden: this study is restricted, and the latent is of layer 0, all of which is hidden at a prompt; look "
            "at weights, promoted or targets, or write your hypothesis down, then: plainspoken study reveal FOLDER "
            "everything"
        )


def verified(records: Sequence[Mapping[str, Any]], head: Head | None, where: str) -> StudyLog:
    """The log, from what stands in its file (`where`) and beside it.

    A kill between the two leaves one entry more than the head knows of, which is whole. Raises StoreError, naming the
    line, for an entry that was altered, moved or put in, and for a log that was cut off.
    """
    mend = "put the file back as it was; a study whose log is not whole proves nothing"
    entries: list[Entry] = []
    for number, record in enumerate(records):
        line = f"{where}, line {number + 1}, is altered"
        if set(record) != _FIELDS or record["kind"] not in get_args(Kind) or not isinstance(record["what"], dict):
            raise StoreError(f"{line}: its fields are not those of an entry; {mend}")
        entry = Entry(**{name: value for name, value in record.items() if name != "sha256"})
        if entry.sha256 != record["sha256"]:
            raise StoreError(f"{line}: it does not match its own hash; {mend}")
        if entry.number != number or entry.previous != (entries[-1].sha256 if entries else START):
            raise StoreError(f"{line}: it does not follow the one before it; {mend}")
        if (entry.kind == "open") != (number == 0):
            raise StoreError(f"{line}: a study is opened once, at its start; {mend}")
        entries.append(entry)
    # A kill right after the first entry leaves no head.
    known = Head(len(entries), entries[-1].sha256) if head is None and len(entries) == 1 else head
    if known is None:
        raise StoreError(f"{where}: what stands beside it, of how long it was, is missing; {mend}")
    if len(entries) < known.entries:
        raise StoreError(f"{where} is truncated: {len(entries)} entries where {known.entries} were written; {mend}")
    if known.entries < 1 or len(entries) > known.entries + 1 or entries[known.entries - 1].sha256 != known.sha256:
        raise StoreError(f"{where} is altered: it is not the log that was written last; {mend}")
    return StudyLog(tuple(entries))
