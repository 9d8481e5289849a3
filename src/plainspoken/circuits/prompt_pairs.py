"""The prompts of a behaviour as a file has them: one JSON object a line, with the token that is wanted and another.

    {"prompt": "class Reader:\\n    def read(", "wanted": "self", "other": "path", "contrast": "def read("}

A contrast is the same prompt without what ought to matter; all lines have one, or none.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plainspoken.circuits.behaviour import Behaviour
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel

FORM = '{"prompt": "...", "wanted": "...", "other": "..."}'
FEWEST = 4
"""Prompts, so that each half has two."""


class PromptPair(BaseModel):
    """One line: after `prompt` (and after `contrast`) the logit of `wanted` is held against that of `other`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: str = Field(min_length=1)
    wanted: str = Field(min_length=1)
    other: str = Field(min_length=1)
    contrast: str | None = Field(default=None, min_length=1)


@dataclass(frozen=True)
class PromptFile:
    """A file of prompts as it was read: its lines by their numbers from 1, empty ones left out, and its SHA-256."""

    path: Path
    pairs: Mapping[int, PromptPair]
    sha256: str

    def place(self, number: int) -> str:
        """What errors call a line."""
        return f"{self.path}, line {number}"


@dataclass(frozen=True)
class Behaviours:
    """The prompts, and their contrasts where there are any, as tokens."""

    prompts: Behaviour
    contrasts: Behaviour | None


def read_pairs(path: Path) -> PromptFile:
    """Reads it once: what is hashed is what is asked.

    Raises UsageError, naming the line, for one that is no such object, that asks for the difference of a token from
    itself, that has a prompt which another has as prompt or contrast, or that lacks a contrast where others have one;
    and for fewer than four.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the prompts cannot be read from {path} ({error}); name a JSONL file of lines {FORM}"
        ) from error
    lines = {number: line for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    pairs = {number: _pair(line, f"{path}, line {number}") for number, line in lines.items()}
    found = PromptFile(path, pairs, hashlib.sha256(data).hexdigest())
    if len(pairs) < FEWEST:
        raise UsageError(
            f"too few prompts in {path} ({len(pairs)}): half of them find the circuit and the other half test it, so "
            f"give at least {FEWEST}, better two hundred"
        )
    with_contrast = next((number for number, pair in pairs.items() if pair.contrast is not None), None)
    for number, pair in pairs.items():
        if pair.contrast is None and with_contrast is not None:
            raise UsageError(
                f"{found.place(number)}: no contrast, where line {with_contrast} has one; give all lines one, or none"
            )
    return found


def _once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, none of whose fields may stand twice."""
    found = dict(fields)
    if len(found) < len(fields):
        raise ValueError(f"a field stands twice among {', '.join(name for name, _ in fields)}")
    return found


def _pair(line: str, where: str) -> PromptPair:
    try:
        pair = PromptPair.model_validate(json.loads(line, object_pairs_hook=_once))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "it"
        raise UsageError(f"{where}: {field}: {problem['msg'].lower()}; a line is {FORM}") from error
    except (ValueError, RecursionError) as error:  # a number of more digits than Python reads is no JSONDecodeError
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UsageError(f"{where} is no JSON: {reason}; a line is {FORM}") from error
    if pair.wanted == pair.other:
        raise UsageError(
            f"{where}: the difference of {pair.wanted!r} from itself is 0 at every prompt; name two tokens"
        )
    return pair


def behaviours(lm: LanguageModel, file: PromptFile, tokens_of: Callable[[str], Sequence[int]]) -> Behaviours:
    """The file's lines as tokens. `tokens_of`: a text's, with any BOS before it.

    Raises UsageError, naming the line, for an answer that is no single token after its prompt, for a prompt whose
    tokens another line has as prompt or contrast, and what `tokens_of` raises.
    """
    pairs = file.pairs
    prompts = _behaviour(lm, file, {number: pair.prompt for number, pair in pairs.items()}, tokens_of)
    texts = {number: pair.contrast for number, pair in pairs.items() if pair.contrast is not None}
    contrasts = _behaviour(lm, file, texts, tokens_of) if texts else None
    first: dict[tuple[int, ...], int] = {}
    for number, tokens in zip(pairs, prompts.prompts, strict=True):
        if (other := first.setdefault(tokens, number)) != number:
            raise UsageError(
                f"{file.place(number)}: this prompt stands in line {other} too, and what the circuit is found on must "
                "not be what it is tested on: leave one of them out"
            )
    for number, tokens in zip(texts, contrasts.prompts if contrasts else (), strict=True):
        if (other := first.get(tokens, number)) != number:
            raise UsageError(
                f"{file.place(number)}: its contrast is the prompt of line {other}, on which the circuit may be found, "
                "so that it must not be tested there: use another contrast, or leave that line out"
            )
    return Behaviours(prompts, contrasts)


def _behaviour(
    lm: LanguageModel, file: PromptFile, texts: Mapping[int, str], tokens_of: Callable[[str], Sequence[int]]
) -> Behaviour:
    prompts, wanted, other = [], [], []
    for number, text in texts.items():
        pair = file.pairs[number]
        try:
            prompts.append(tuple(tokens_of(text)))
            wanted.append(answer(lm, text, pair.wanted))
            other.append(answer(lm, text, pair.other))
            if wanted[-1] == other[-1]:
                raise UsageError(f"{pair.wanted!r} and {pair.other!r} are one token of {lm.name}: name two")
        except UsageError as error:
            raise UsageError(f"{file.place(number)}: {error}") from error
    begun = lm.bos_id is not None and prompts[0][0] == lm.bos_id
    return Behaviour(tuple(prompts), tuple(wanted), tuple(other), begun)


def answer(lm: LanguageModel, text: str, word: str) -> int:
    """The token that a word is after a text. Raises UsageError where it is several, or changes the text's own."""
    before, after = lm.ids(text), lm.ids(text + word)
    if len(after) != len(before) + 1 or after[:-1] != before:
        raise UsageError(
            f"{word!r} is no single token of {lm.name} after {text[-12:]!r}: use another word, or move a space from "
            "the one to the other"
        )
    return after[-1]
