"""Questions about several texts at a time, answered in words: asked in order, read, and every fault kept."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from plainspoken.language.counted import counted
from plainspoken.llm import Answer, Chat, Fault, Message, Reply, Request
from plainspoken.llm.open import Llm
from plainspoken.scorers.judged import Judged, Verdict
from plainspoken.scorers.means import STAGE, Score, Scored, ScoreMeans
from plainspoken.scorers.windows import Window, Windows, document_of
from plainspoken.types import Failure

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Example:
    """A window as it is shown, and what is true of it: whether it is what is asked for, and how strongly."""

    window: Window
    text: str
    truth: bool
    strength: float


@dataclass(frozen=True, eq=False)
class Question:
    """Some examples of one latent, and what is asked about them."""

    latent: int
    examples: Sequence[Example]
    request: Chat


Read = Callable[[str, int], list[float] | Fault]
"""A reply about so many texts to how sure it is of each (0 to 1), or why it cannot be read."""


@dataclass(frozen=True)
class Form:
    """How a scorer asks: what the model is told, a question with its answer to show how, and how a reply is read.

    `groups`: (latent, windows, pieces, texts in a question) to the examples of each question.
    """

    system: str
    shot: tuple[str, str]
    read: Read
    groups: Callable[[int, Windows, Sequence[bytes], int], Iterator[Sequence[Example]]]


def answers(llm: Llm, asked: Iterable[tuple[T, Request]]) -> Iterator[tuple[T, Answer]]:
    """What was asked about, with its answer, in order; drawn as it is needed."""
    waiting: deque[T] = deque()

    def requests() -> Iterator[Request]:
        for about, request in asked:
            waiting.append(about)
            yield request

    for answer in llm.asker.ask(requests(), STAGE):
        yield waiting.popleft(), answer


def score_in_words(means: ScoreMeans, form: Form) -> Score:
    """Asks by chat, in groups of texts. Raises LlmError where the model cannot be asked so."""
    llm, settings = means.llm, means.settings
    assert llm is not None
    llm.require("chat")

    def score(
        sentences: Mapping[int, str],
        windows: Windows,
        pieces: Sequence[bytes],
        progress: Callable[[int], object] | None = None,
        /,
    ) -> Scored:
        def questions() -> Iterator[Question]:
            for latent, sentence in sentences.items():
                for examples in form.groups(latent, windows, pieces, settings.batch):
                    asked = f"Description: {sentence}\n\n{numbered(example.text for example in examples)}"
                    yield Question(latent, examples, _chat(form, asked, settings.max_tokens))
                if progress is not None:
                    progress(1)

        return _ask_questions(llm, questions(), windows, form.read)

    return score


def _ask_questions(llm: Llm, questions: Iterable[Question], windows: Windows, read: Read) -> Scored:
    """Verdicts on all examples whose question got an answer that can be read."""
    ledger = Ledger(windows)
    for question, answer in answers(llm, ((question, question.request) for question in questions)):
        count = len(question.examples)
        said = _said(answer, count, read)
        if isinstance(said, Fault):
            ledger.fail(question.latent, said, count)
            continue
        assert isinstance(said, list) and len(said) == count
        for example, value in zip(question.examples, said, strict=True):
            ledger.add(question.latent, example, value, value > 0.5)
    return ledger.finish()


def _said(answer: Answer, count: int, read: Read) -> list[float] | Fault:
    """What a whole reply says; one that was cut off may have been about to say something else."""
    if isinstance(answer, Fault):
        return answer
    if not isinstance(answer, Reply):
        return Fault("server", "it answered with something else than words")
    if answer.finish == "refused":
        return Fault("refused", "the model refused")
    if answer.finish == "length":
        return Fault("cut answer", "the reply was cut off; raise score.max_tokens")
    return read(answer.text, count)


def _chat(form: Form, question: str, max_tokens: int) -> Chat:
    """A conversation: what to do, how another was answered, the question."""
    asked, answered = form.shot
    turns = Message("system", form.system), Message("user", asked), Message("assistant", answered)
    return Chat((*turns, Message("user", question)), max_tokens)


def numbered(texts: Iterable[str]) -> str:
    """The texts, one a line, numbered from 1."""
    return "\n".join(f"Text {number}: {text}" for number, text in enumerate(texts, 1))


def batches(examples: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The examples, `size` at a time, in order; the last may be fewer."""
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


class Ledger:
    """Verdicts and faults as they come, finished to what they amount to."""

    def __init__(self, windows: Windows) -> None:
        self._rows = windows.table.rows
        self._asked = np.zeros(windows.table.latents, np.int64)
        self._verdicts: list[Verdict] = []
        self._faults: Counter[tuple[int, str]] = Counter()
        self._reasons: dict[tuple[int, str], str] = {}

    def add(self, latent: int, example: Example, said: float, yes: bool) -> None:
        """An example that was answered."""
        self._asked[latent] += 1
        window = example.window
        self._verdicts.append(
            Verdict(
                latent, document_of(self._rows, window), window.row, window.start, example.truth, example.strength,
                float(said), bool(yes),
            )
        )  # fmt: skip

    def fail(self, latent: int, fault: Fault, examples: int) -> None:
        """Examples that were not."""
        self._asked[latent] += examples
        self._faults[latent, fault.kind] += examples
        self._reasons.setdefault((latent, fault.kind), fault.reason)

    def finish(self) -> Scored:
        """What was judged, and a Failure for each latent and kind of fault."""
        failures = tuple(
            Failure(
                latent,
                STAGE,
                f"{counted(count, 'example')} without an answer: {self._reasons[latent, kind]}",
                kind=kind,
            )
            for (latent, kind), count in sorted(self._faults.items())
        )
        unanswered: Counter[str] = Counter()
        for (_, kind), count in self._faults.items():
            unanswered[kind] += count
        return Scored(Judged.of(self._verdicts, self._asked), dict(unanswered), failures)
