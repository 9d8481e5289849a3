"""Latents put into words by a language model: asked side by side, read strictly, held to the budget of words."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float

from plainspoken.config import ExplainConfig
from plainspoken.corpus.rows import require_part
from plainspoken.errors import ConfigError
from plainspoken.explainers.answer import MARKER, read_answer
from plainspoken.explainers.budget import TOO_MANY_WORDS, cap_on, held_to
from plainspoken.explainers.means import Explain, ExplainMeans
from plainspoken.explainers.prompt import Asking, Task
from plainspoken.language.counted import counted
from plainspoken.language.quote import count_words
from plainspoken.latents.table import FiringTable
from plainspoken.latents.windows import Windows
from plainspoken.llm import Answer, Chat, Completion, Fault, Reply, request_key
from plainspoken.llm.open import Llm
from plainspoken.types import Explanation, Failure

STAGE = "explain"
NOT_EXPLAINED = "not explained"
"""The kind of failure of a latent that the language model was not asked about."""
_ASKED_SHORTER = (TOO_MANY_WORDS, "cut answer")
_SHORTER_PROMPT = ("beyond context", "cut prompt")
_TOKENS_OF_A_WORD, _TOKENS_OF_A_REPLY, _TOKENS_OF_THOUGHT = 3, 100, 1000

Prepared = TypeVar("Prepared")
Show = Callable[[int], str | Failure]
"""From a latent to what there is to see of it, or why it is not asked about; the same at every call."""


@dataclass(frozen=True, eq=False)
class Case(Generic[Prepared]):
    """One site: where its latents fire, what was `prepared` of the text, and the budget (`means.Explain`)."""

    table: FiringTable
    prepared: Prepared
    weight: Float[np.ndarray, " latents"]
    words: int
    words_max: int


def explain_by(
    means: ExplainMeans, by: str, task: Task, showing: Callable[[Case[Prepared]], Show]
) -> Explain[Prepared]:
    """An explainer that asks a language model, by what it wants of it and what it shows of each latent of a site.

    Raises as `Speaker.open` does.
    """
    speaker = Speaker.open(means, by, task)

    def explain(
        table: FiringTable,
        prepared: Prepared,
        weight: Float[np.ndarray, " latents"],
        words: int,
        words_max: int,
        progress: Callable[[int], object] | None = None,
    ) -> list[Explanation | Failure]:
        require_part(table.rows, "explain")
        show = showing(Case(table, prepared, weight, words, words_max))
        return speaker.explain(table, show, words, words_max, progress)

    return explain


@dataclass(frozen=True)
class _Said:
    """What came of asking about a latent. `reply`: as it was worded, where it is to be asked for shorter."""

    outcome: Explanation | Failure
    reply: str | None


@dataclass(frozen=True, eq=False)
class Speaker:
    """The language model of an explainer, what it is to do and how it is asked. `by`: the explainer's name."""

    llm: Llm
    settings: ExplainConfig
    seed: int
    by: str
    task: Task
    chat: bool

    @staticmethod
    def open(means: ExplainMeans, by: str, task: Task) -> "Speaker":
        """Raises LlmError where the model cannot be asked this way, ConfigError for settings that do not go together.

        The model is tried at once.
        """
        llm, settings = means.llm, means.settings
        assert llm is not None, "an explainer that needs a language model is given one"
        chat = settings.ask == "chat" or (settings.ask == "auto" and llm.tokens.has_template)
        if settings.chain_of_thought and not chat:
            raise ConfigError(
                "explain.chain_of_thought needs an assistant, and the explainer's tokenizer brings no chat template; "
                "set explain.ask=chat where its server has one, or leave chain_of_thought off"
            )
        reply = _reply_tokens(settings, settings.words_max)
        if 0 < llm.context <= reply:
            raise ConfigError(
                f"a reply may take {reply} tokens, and the context of {llm.name} is {llm.context}, prompt and reply "
                "together; set explain.words_max or explain.max_tokens lower, or name a model with a longer context"
            )
        llm.require("chat" if chat else "completion")
        return Speaker(llm, settings, means.seed, by, task, chat)

    def explain(
        self,
        table: FiringTable,
        show: Show,
        words: int,
        words_max: int,
        progress: Callable[[int], object] | None = None,
    ) -> list[Explanation | Failure]:
        """One entry a latent. `show` is called as prompts are needed, in order.

        A reply that is too long, or cut off, is asked for once more with the reason. So are the longest of a site whose
        explanations have more than `words` in the mean; where they then still have, the longest are given up. Kinds of
        failure: those of a Fault, and `NOT_EXPLAINED` for latents that were not asked about, such as fire in fewer
        windows than `explain.least_examples`.
        """
        asking, windows = self._asking(words, words_max), Windows(table, self.settings.window)
        found: dict[int, Explanation | Failure] = {}

        def shown() -> Iterator[tuple[int, str]]:
            for latent in range(table.latents):
                text = self._too_few(windows, latent) or show(latent)
                if isinstance(text, str):
                    yield latent, text
                    continue
                found[latent] = text
                if progress is not None:
                    progress(1)

        first: dict[int, _Said] = {}
        for latent, said in self._asked(((n, asking.first(text)) for n, text in shown()), words_max):
            first[latent] = said
            if progress is not None:
                progress(1)
        again, most = _too_long(first, words, words_max)
        found |= {latent: said.outcome for latent, said in first.items()}

        def shorter() -> Iterator[tuple[int, Chat | Completion]]:
            for latent in again:
                text, said = show(latent), first[latent]
                assert isinstance(text, str) and said.reply is not None
                yield latent, asking.again(text, said.reply, _why(said.outcome), most)

        for latent, said in self._asked(shorter(), words_max):
            found[latent] = _shorter(first[latent].outcome, said.outcome)
        kept = held_to(found, words)
        return [kept[latent] for latent in range(table.latents)]

    def _asked(self, requests: Iterator[tuple[int, Chat | Completion]], words_max: int) -> Iterator[tuple[int, _Said]]:
        """What is said to each request of a latent, in their order."""
        waiting: deque[tuple[int, Chat | Completion]] = deque()

        def sent() -> Iterator[Chat | Completion]:
            for latent, request in requests:
                waiting.append((latent, request))
                yield request

        for answer in self.llm.asker.ask(sent(), STAGE):
            latent, request = waiting.popleft()
            said = _read(answer, self.chat, words_max)
            worded = isinstance(said, str) or said.kind in _ASKED_SHORTER
            reply = answer.text if worded and isinstance(answer, Reply) else None
            yield latent, _Said(self._outcome(latent, request, said), reply)

    def _asking(self, words: int, words_max: int) -> Asking:
        settings = self.settings
        return Asking(
            self.task,
            self.chat,
            min(words, words_max),
            words_max,
            _reply_tokens(settings, words_max),
            settings.temperature,
            self.seed,
            settings.chain_of_thought,
        )

    def _too_few(self, windows: Windows, latent: int) -> Failure | None:
        count = len(windows.firing(latent))
        if count >= max(1, self.settings.least_examples):
            return None
        if not count:
            return not_explained(
                latent, "it never fires on the explain documents; take more of them (corpus.explain_tokens)"
            )
        return not_explained(
            latent,
            f"it fires in {counted(count, 'text')}, fewer than explain.least_examples = {self.settings.least_examples}"
            "; lower that, or take more documents (corpus.explain_tokens)",
        )

    def _outcome(self, latent: int, request: Chat | Completion, said: str | Fault) -> Explanation | Failure:
        if isinstance(said, Fault):
            return Failure(latent, STAGE, said.reason, kind=said.kind)
        return Explanation(latent, said, count_words(said), self.by, request_key(request, self.llm.name).hex())


def not_explained(latent: int, reason: str) -> Failure:
    """Of a latent that the language model was not asked about."""
    return Failure(latent, STAGE, reason, kind=NOT_EXPLAINED)


def _too_long(said: Mapping[int, _Said], words: int, words_max: int) -> tuple[list[int], int]:
    """(the latents to ask about once more, in how many words): those whose reply is too long for one explanation, and
    the longest where all together are too long. A reply that is too long counts as the longest that it may be."""
    length = {
        latent: each.outcome.words if isinstance(each.outcome, Explanation) else words_max
        for latent, each in said.items()
        if each.reply is not None
    }
    cap = cap_on(list(length.values()), words)
    failed = {latent for latent in length if isinstance(said[latent].outcome, Failure)}
    again = [latent for latent in length if latent in failed or (cap is not None and length[latent] > cap)]
    return again, words_max if cap is None else max(1, min(cap, words_max))


def _why(outcome: Explanation | Failure) -> str:
    """Why a reply is asked for again, as a sentence."""
    if isinstance(outcome, Failure):
        return f"{outcome.reason[0].upper()}{outcome.reason[1:]}."
    return f"The explanation has {counted(outcome.words, 'word')}, which is too long."


def _shorter(first: Explanation | Failure, second: Explanation | Failure) -> Explanation | Failure:
    """The shorter of two explanations; the one there is; else why there is none in the end."""
    if isinstance(first, Failure) or (isinstance(second, Explanation) and second.words < first.words):
        return second
    return first


def _reply_tokens(settings: ExplainConfig, words_max: int) -> int:
    """The most tokens of a reply."""
    enough = _TOKENS_OF_A_REPLY + _TOKENS_OF_A_WORD * words_max + _TOKENS_OF_THOUGHT * settings.chain_of_thought
    return settings.max_tokens or enough


def _read(answer: Answer, chat: bool, words_max: int) -> str | Fault:
    """The explanation of an answer, or what is wrong with it."""
    if isinstance(answer, Fault):
        mend = "; lower explain.examples, explain.window or explain.words_max" if answer.kind in _SHORTER_PROMPT else ""
        return replace(answer, reason=answer.reason + mend)
    assert isinstance(answer, Reply), "words were asked for"
    # A text to go on with ends in the marker: what comes back is the explanation alone.
    said = read_answer(answer if chat else replace(answer, text=f"{MARKER} {answer.text}"))
    if isinstance(said, str) and (words := count_words(said)) > words_max:
        return Fault(
            TOO_MANY_WORDS, f"the explanation has {counted(words, 'word')}, more than {words_max} (explain.words_max)"
        )
    return said
