"""What a language model is told and shown about one latent: an assistant, or a model that goes on with a text."""

from dataclasses import dataclass
from itertools import chain

from plainspoken.explainers.answer import MARKER
from plainspoken.llm import Chat, Completion, Message

_WORDS = "About {words} words; never more than {words_max}."
_ANSWER = (
    f"Answer with one line that begins with {MARKER} and holds the explanation and nothing else. Do not speak of the "
    "examples, of marks or of numbers of examples; a reader of the line will not see them."
)
_THINK = (
    "First think in a few short lines: what stands at the tokens, what stands before them, what does not belong. Then "
    f"answer with one last line that begins with {MARKER} and holds the explanation and nothing else. Do not speak of "
    "the examples, of marks or of numbers of examples in that line; its reader will not see them."
)
LATENT = (
    "You study a language model. A latent is a number inside of it that is above zero at some tokens of a text and "
    "zero at all others; where it is above zero, it fires."
)


@dataclass(frozen=True)
class Task:
    """What an explainer wants of a language model, whatever the latent. `told`: what is shown and what is wanted.

    `terse`: the same in a line, for a model that is no assistant and whose context may be short. `shots`: cases with
    their explanations, as (shown, explanation).
    """

    told: str
    terse: str
    shots: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Asking:
    """How every latent is asked about: as an assistant (`chat`) or by a text to go on with; budget and sampling."""

    task: Task
    chat: bool
    words: int
    words_max: int
    max_tokens: int
    temperature: float
    seed: int
    think: bool

    def first(self, shown: str) -> Chat | Completion:
        """The request for an explanation. `shown`: what there is to see of the latent."""
        return self._chat(self._messages(shown)) if self.chat else self._completion(shown, "")

    def again(self, shown: str, reply: str, reason: str, most: int) -> Chat | Completion:
        """The request for a shorter one, of at most so many words, which says why."""
        if not self.chat:
            return self._completion(shown, f" In {most} words or fewer.")
        wanted = f"{reason} Answer again, in {most} words or fewer, with one line that begins with {MARKER}"
        return self._chat((*self._messages(shown), Message("assistant", reply), Message("user", wanted)))

    def _messages(self, shown: str) -> tuple[Message, ...]:
        words = _WORDS.format(words=self.words, words_max=self.words_max)
        told = "\n\n".join((LATENT, self.task.told, f"{words} {_THINK if self.think else _ANSWER}"))
        shots = [(Message("user", case), Message("assistant", f"{MARKER} {said}")) for case, said in self.task.shots]
        return (Message("system", told), *chain.from_iterable(shots), Message("user", shown))

    def _chat(self, messages: tuple[Message, ...]) -> Chat:
        return Chat(messages, self.max_tokens, self.temperature, self.seed)

    def _completion(self, shown: str, more: str) -> Completion:
        text = f"{self.task.terse}{more}\n\n{shown}\n\n{MARKER}"
        return Completion(text, self.max_tokens, self.temperature, self.seed, stop=("\n",))
