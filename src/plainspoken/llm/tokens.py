"""A language model's own tokens: prompts as ids that we joined, so that every position is an offset that we know."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from plainspoken.corpus.pieces import Pieces, backend_of, special_ids
from plainspoken.errors import ConfigError
from plainspoken.llm.encoding import Encoder, Ids
from plainspoken.llm.requests import Message

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
else:  # transformers takes half a second to import: only those who load a tokenizer wait for it
    PreTrainedTokenizerBase = object

_ANCHORS = ("\n", "a", ".")
_ROLE = {"system": "System", "user": "User", "assistant": "Assistant"}
_PRIVATE = range(0xE000, 0xF900)


@dataclass(frozen=True)
class Joined:
    """Parts of a prompt one after another. `ends[i]`: the offset in `ids` just behind part i."""

    ids: Ids
    ends: Ids


@dataclass(frozen=True, eq=False)
class LlmTokens:
    """The tokenizer of a language model that is asked, and `pieces`, the bytes that each id adds to the text.

    What is encoded is text and nothing else: where it spells a special token (`<|im_end|>`) it becomes the tokens of
    these characters, or text that is quoted could end a turn. Only a chat template writes special tokens. A `Chat` or
    `Completion` that a server tokenizes is in that server's hands.
    """

    tokenizer: PreTrainedTokenizerBase
    pieces: Pieces

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, vocabulary: int = 0) -> "LlmTokens":
        """Raises ModelError for a tokenizer whose bytes per token are not known (see `Pieces`)."""
        return cls(tokenizer, Pieces.from_tokenizer(tokenizer, vocabulary))

    @property
    def begin(self) -> Ids:
        """The token that starts a text (BOS), where the tokenizer has one."""
        bos = self.tokenizer.bos_token_id
        return (bos,) if isinstance(bos, int) else ()

    @cached_property
    def end(self) -> Ids:
        """The token that ends a text (EOS), where the tokenizer has one."""
        eos = self.tokenizer.eos_token_id
        return (eos,) if isinstance(eos, int) else ()

    def encode(self, text: str) -> Ids:
        """Ids of a text that goes on from other text: no special tokens, and no space put before it.

        SentencePiece puts a space before whatever it takes for the beginning of a text. There the text is encoded
        behind a character that keeps its own token, and that token is left out again.
        """
        return self._going_on(text, special=False)

    def encode_prompt(self, text: str) -> Ids:
        """Ids of a whole text as the tokenizer begins it, without the token that would end it."""
        ids = self._encoder.whole(text)
        return ids[: -len(self.end)] if len(ids) > 1 and self.end and ids[-1:] == self.end else ids

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens add nothing, bytes that are no character read U+FFFD."""
        return self._bytes(ids).decode("utf-8", "replace")

    def join(self, parts: Sequence[Sequence[int]]) -> Joined:
        """The parts one after another, with where each ends."""
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64).tolist()
        return Joined(tuple(token for part in parts for token in part), tuple(ends))

    def chat_prefix(self, messages: Sequence[Message]) -> Ids:
        """Ids of a conversation up to where the assistant's next words begin.

        By the tokenizer's own chat template; where that knows no system role (it refuses it, as Gemma's does, or leaves
        it out), a system message at the beginning stands in the first user message, before its text and an empty line.
        Without a template: BOS, then every message as `User: ...` (`System:`, `Assistant:`) with an empty line behind
        it, then `Assistant:`.
        Raises ConfigError where the template refuses the conversation all the same.
        """
        if not self.has_template:
            turns = "".join(f"{_ROLE[message.role]}: {message.content}\n\n" for message in messages)
            return self.begin + self.encode(turns + "Assistant:")
        mark = next(chr(code) for code in _PRIVATE if not any(chr(code) in message.content for message in messages))
        wrapped = rf"{mark}\g<0>{mark}"
        marked = [Message(message.role, self._special.sub(wrapped, message.content)) for message in messages]
        first, *rest = re.split(f"{mark}(.*?){mark}", self._rendered(marked), flags=re.DOTALL)
        ids = self._ids(first, special=True)
        for place, part in enumerate(rest):
            ids += self._going_on(part, special=place % 2 == 1)
        return ids

    def _rendered(self, messages: Sequence[Message]) -> str:
        """The conversation as the tokenizer's template writes it, special tokens and all."""
        from jinja2 import TemplateError

        folded = _without_system(messages)
        try:
            text = self._template(messages)
            if folded is None or messages[0].content.strip() in text:
                return text
        except TemplateError as error:
            if folded is None:
                raise self._refusal(messages, error) from error
        try:
            return self._template(folded)
        except TemplateError as error:
            raise self._refusal(messages, error) from error

    def _template(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return cast(str, self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))

    def _refusal(self, messages: Sequence[Message], error: Exception) -> ConfigError:
        return ConfigError(
            f"the chat template of {self.tokenizer.name_or_path} refuses roles "
            f"{', '.join(message.role for message in messages)}: {error}; name another model or tokenizer"
        )

    def for_template(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation as the template takes it: the system message within the first user message where it knows
        no system role, else as it is. For who sends messages to a server, whose template is this tokenizer's."""
        folded = _without_system(messages)
        return tuple(messages) if folded is None or self.knows_system else tuple(folded)

    @cached_property
    def knows_system(self) -> bool:
        """Whether the chat template takes a system message and shows it; true without a template."""
        from jinja2 import TemplateError

        word = "instruction"
        try:
            return not self.has_template or word in self._template([Message("system", word), Message("user", "u")])
        except TemplateError:
            return False

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer brings a chat template of its own."""
        return bool(self.tokenizer.chat_template)

    @property
    def turn_end(self) -> tuple[str, ...]:
        """Texts behind which the assistant's words are over, beside EOS: of our plain template only."""
        return () if self.has_template else ("\n\nUser:", "\n\nSystem:")

    def single(self, answer: str, after: Sequence[int]) -> int:
        """The id of an answer that is one token behind the ids `after`.

        Raises ConfigError where it is no single token there, as "10" is not in many tokenizers.
        """
        behind = self._behind(self.text(after[-8:]), answer)
        for ids in (behind, self.encode(answer)):
            if ids is not None and len(ids) == 1 and self.text(ids).strip() == answer.strip():
                return ids[0]
        name = self.tokenizer.name_or_path or type(self.tokenizer).__name__
        count = len(self.encode(answer))
        found = f"{count} tokens, not one" if count != 1 else "a token that spells something else"
        raise ConfigError(
            f"the answer {answer!r} is {found}, for the tokenizer {name}: "
            "use a model whose tokenizer has it as one token, or a simulator that reads answers as text"
        )

    def digits(self, after: Sequence[int]) -> Ids:
        """The ids of the answers 0 to 9 behind the ids `after`: ten, for each spells its digit.

        Raises ConfigError as `single` does.
        """
        return tuple(self.single(str(digit), after) for digit in range(10))

    @cached_property
    def _special(self) -> re.Pattern[str]:
        """What spells a special token, the longest where several begin."""
        known = backend_of(self.tokenizer).get_added_tokens_decoder()
        names = [known[index].content for index in special_ids(self.tokenizer) if index in known]
        return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")

    def _going_on(self, text: str, special: bool) -> Ids:
        """Ids of text behind other text; `special`: what spells a special token is one."""
        if not self._puts_a_space:
            return self._ids(text, special)
        for anchor in _ANCHORS:
            rest = self._behind(anchor, text, special)
            # Behind each of its special tokens a tokenizer may put a space, too: that is how it reads its template.
            if rest is not None and (special or self._bytes(rest) == text.encode()):
                return rest
        return self._ids(text, special)

    @cached_property
    def _puts_a_space(self) -> bool:
        """Whether the tokenizer puts a space before a text."""
        return self._bytes(self._ids("a")) == b" a"

    def _behind(self, before: str, text: str, special: bool = False) -> Ids | None:
        """Ids of `text` behind `before`; None where the tokens of `before` change when the text follows."""
        first, both = self._ids(before, special), self._ids(before + text, special)
        return both[len(first) :] if first and both[: len(first)] == first else None

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self.pieces)

    def _ids(self, text: str, special: bool = False) -> Ids:
        """What the tokenizer makes of a text."""
        return self._encoder.ids(text, special)

    def _bytes(self, ids: Sequence[int]) -> bytes:
        return self.pieces.row_bytes(np.asarray(ids, np.int64))[0]


def _without_system(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation with the system message within the first user message; None where that cannot be."""
    if len(messages) < 2 or messages[0].role != "system" or messages[1].role != "user":
        return None
    system, first, *rest = messages
    return [Message("user", f"{system.content}\n\n{first.content}"), *rest]
