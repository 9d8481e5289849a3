"""From questions to a simulation: what every simulator that asks a language model does with its questions' answers."""

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Int

from plainspoken.language.counted import counted
from plainspoken.language.text import Text
from plainspoken.llm.open import Llm
from plainspoken.llm.requests import Answer, Fault, FaultKind, Request
from plainspoken.simulators.levels import Levels
from plainspoken.simulators.means import Simulate
from plainspoken.simulators.pairs import ToAsk
from plainspoken.types import Failure, Pairs, Simulation

STAGE = "simulate"
"""What the cost of the questions is counted under."""


@dataclass(frozen=True, eq=False)
class Question:
    """A request about n (position, latent) pairs, which its answer tells of in this order; none is in two questions.

    `position`: row * t + column. `request`: a Fault where it cannot be put (a text that is too long): it is not sent.
    """

    position: Int[np.ndarray, " n"]
    latent: Int[np.ndarray, " n"]
    request: Request | Fault


Read = Callable[[Question, Answer], Levels | Fault]
"""What an answer says of the question's pairs; a Fault for one that says nothing of them."""


def ask_levels(
    llm: Llm,
    questions: Iterable[Question],
    read: Read,
    text: Text,
    latents: int,
    asked: Bool[np.ndarray, "row t"] | None,
    pairs: int,
    progress: Callable[[int], object] | None = None,
) -> tuple[Simulation, list[Failure]]:
    """Put the questions, in their order, and gather the answers.

    Args:
        questions: drawn as they are needed; those that begin alike should follow one another, since what a prompt has
            in common with the one before is not computed again.
        read: what an answer says.
        asked: the tokens that the questions are about, as `Simulate` was given them.
        pairs: how many pairs all questions are about, for `progress`, which is told of rows.

    Returns:
        The simulation, each pair of a Fault or without enough probability missing in it; and for every latent and
        every kind of Fault a Failure that says how many of its pairs that was, and why the first.
    """
    waiting: deque[Question] = deque()
    heard = _Heard(text, latents)
    shown = _Shown(progress, len(text.rows.tokens), pairs)

    def requests() -> Iterator[Request]:
        for question in questions:
            waiting.append(question)
            if not isinstance(question.request, Fault):
                yield question.request

    def settle(question: Question, levels: Levels | Fault) -> None:
        heard.hear(question, levels)
        shown.done(len(question.position))

    def settle_unsent() -> None:
        while waiting and isinstance(waiting[0].request, Fault):
            question = waiting.popleft()
            assert isinstance(question.request, Fault)
            settle(question, question.request)

    for answer in llm.asker.ask(requests(), stage=STAGE):
        settle_unsent()
        question = waiting.popleft()
        settle(question, read(question, answer))
    settle_unsent()
    shown.finish()
    return heard.simulation(asked), heard.failures()


def simulate_by_asking(
    llm: Llm, questions: Callable[[Mapping[int, str], Text, ToAsk], Iterable[Question]], read: Read
) -> Simulate:
    """The simulator that puts the questions which `questions` makes of (sentences, text, pairs to ask about)."""

    def simulate(
        sentences: Mapping[int, str],
        latents: int,
        text: Text,
        asked: Bool[np.ndarray, "row t"] | None = None,
        only: Pairs | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> tuple[Simulation, list[Failure]]:
        pairs = ToAsk.of(sentences, text.rows, asked, only)
        put = questions(sentences, text, pairs)
        return ask_levels(llm, put, read, text, latents, asked, len(pairs), progress)

    return simulate


def too_long(llm: Llm, tokens: int) -> Fault | None:
    """A Fault where a prompt of so many tokens leaves no room for an answer; None, too, where the room is not known."""
    if not llm.context or tokens < llm.context:
        return None
    return Fault(
        "beyond context",
        f"a prompt of {counted(tokens, 'token')} and its answer; the context of {llm.name} is {llm.context}",
    )


@dataclass
class _Heard:
    """What the answers have said so far, in columns: a few bytes a pair, whatever the requests weighed."""

    text: Text
    latents: int
    position: array = field(default_factory=lambda: array("q"))
    latent: array = field(default_factory=lambda: array("i"))
    level: array = field(default_factory=lambda: array("f"))
    missing_position: array = field(default_factory=lambda: array("q"))
    missing_latent: array = field(default_factory=lambda: array("i"))
    unanswered: dict[tuple[int, FaultKind], tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.discarded, self.told = np.zeros(self.latents), np.zeros(self.latents, np.int64)

    def hear(self, question: Question, levels: Levels | Fault) -> None:
        position, latent = question.position, question.latent
        if isinstance(levels, Fault):
            self._miss(position, latent, levels.kind, levels.reason)
            return
        assert levels.level.shape == position.shape, "one level for each pair"
        known = ~np.isnan(levels.discarded)
        np.add.at(self.discarded, latent[known], levels.discarded[known])
        np.add.at(self.told, latent[known], 1)
        if (few := ~levels.enough).any():
            reason = f"{levels.discarded[few][0]:.2%} of the probability went to other answers than the digits"
            self._miss(position[few], latent[few], "missing probability mass", reason)
        said = levels.enough & (levels.level > 0)
        _extend(self.position, position[said])
        _extend(self.latent, latent[said])
        _extend(self.level, levels.level[said])

    def simulation(self, asked: Bool[np.ndarray, "row t"] | None) -> Simulation:
        rows, nothing = self.text.rows, np.zeros(0, np.int64)
        count, t = rows.tokens.shape
        with np.errstate(invalid="ignore"):
            discarded = self.discarded / self.told  # NaN where no answer told of it
        bare = Simulation(nothing, nothing, np.zeros(0, np.float32), self.latents, count, t, rows.fingerprint, asked)
        told = bare.with_entries(_ints(self.position), _ints(self.latent), np.array(self.level, np.float32))
        told = told.with_missing(_ints(self.missing_position), _ints(self.missing_latent))
        return replace(told, discarded=discarded)

    def failures(self) -> list[Failure]:
        return [
            Failure(
                latent, STAGE, f"{counted(count, '(token, latent) pair')} got no answer; the first: {reason}", kind=kind
            )
            for (latent, kind), (count, reason) in sorted(self.unanswered.items())
        ]

    def _miss(
        self, position: Int[np.ndarray, " m"], latent: Int[np.ndarray, " m"], kind: FaultKind, reason: str
    ) -> None:
        _extend(self.missing_position, position)
        _extend(self.missing_latent, latent)
        which, counts = np.unique(latent, return_counts=True)
        for one, count in zip(which.tolist(), counts.tolist(), strict=True):
            before, first = self.unanswered.get((one, kind), (0, reason))
            self.unanswered[one, kind] = (before + count, first)


def _extend(column: array, values: np.ndarray) -> None:
    column.frombytes(np.ascontiguousarray(values, dtype=column.typecode).tobytes())


def _ints(column: array) -> Int[np.ndarray, " n"]:
    return np.array(column, np.int64)


@dataclass
class _Shown:
    """Progress in rows, of work that is not done row by row: the share of the pairs, in rows."""

    tell: Callable[[int], object] | None
    rows: int
    pairs: int
    settled: int = 0
    told: int = 0

    def done(self, pairs: int) -> None:
        self.settled += pairs
        self._up_to(self.rows * self.settled // max(self.pairs, self.settled))

    def finish(self) -> None:
        self._up_to(self.rows)

    def _up_to(self, rows: int) -> None:
        if self.tell is not None and rows > self.told:
            self.tell(rows - self.told)
            self.told = rows
