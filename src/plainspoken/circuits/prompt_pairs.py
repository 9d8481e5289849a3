"""The prompts of a behaviour as a file has them: one JSON object a line, with the token that is wanted and another.

    {"prompt": "class Reader:\\n    def read(", "wanted": "self", "other": "path", "contrast": "def read("}

A contrast is the same prompt without what ought to matter; all lines have one, or none.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
class Behaviours:
    """The prompts, and their contrasts where there are any, as tokens."""

    prompts: Behaviour
    contrasts: Behaviour | None


def read_pairs(path: Path) -> dict[int, PromptPair]:
    """The file's lines by their numbers from 1; empty ones are left out.

    Raises UsageError, naming the line, for one that is no such object, that asks for the difference of a token from
    itself, that has a prompt which another has, or that lacks a contrast where others have one; and for fewer than
    four.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the prompts cannot be read from {path} ({error}); name a JSONL file of lines {FORM}"
        ) from error
    found = {
        number: _pair(line, f"{path}, line {number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()
    }
    if len(found) < FEWEST:
        raise UsageError(
            f"{path} has {len(found)} prompts; half of them find the circuit and the other half test it, so give at "
            f"least {FEWEST}, better a hundred"
        )
    first: dict[str, int] = {}
    with_contrast = next((number for number, pair in found.items() if pair.contrast is not None), None)
    for number, pair in found.items():
        if (other := first.setdefault(pair.prompt, number)) != number:
            raise UsageError(
                f"{path}, line {number}: this prompt stands in line {other} too, and what the circuit is found on it "
                "must not be tested on: leave one of them out"
            )
        if pair.contrast is None and with_contrast is not None:
            raise UsageError(
                f"{path}, line {number}: no contrast, where line {with_contrast} has one; give all lines one, or none"
            )
    return found


def _pair(line: str, where: str) -> PromptPair:
    try:
        pair = PromptPair.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is no JSON: {error.msg} at column {error.colno}; a line is {FORM}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "it"
        raise UsageError(f"{where}: {field}: {problem['msg'].lower()}; a line is {FORM}") from error
    if pair.wanted == pair.other:
        raise UsageError(
            f"{where}: the difference of {pair.wanted!r} from itself is 0 at every prompt; name two tokens"
        )
    return pair


def behaviours(
    lm: LanguageModel,
    pairs: Sequence[PromptPair],
    where: Sequence[str],
    tokens_of: Callable[[str], Sequence[int]],
) -> Behaviours:
    """The pairs as tokens. `where`: what errors call each; `tokens_of`: a prompt's tokens, with any BOS before it.

    Raises UsageError, naming the place, for an answer that is no single token after its prompt, and what `tokens_of`
    raises.
    """
    contrasts = None
    if all(pair.contrast is not None for pair in pairs):
        contrasts = _behaviour(lm, pairs, [pair.contrast or "" for pair in pairs], where, tokens_of)
    return Behaviours(_behaviour(lm, pairs, [pair.prompt for pair in pairs], where, tokens_of), contrasts)


def _behaviour(
    lm: LanguageModel,
    pairs: Sequence[PromptPair],
    texts: Sequence[str],
    where: Sequence[str],
    tokens_of: Callable[[str], Sequence[int]],
) -> Behaviour:
    prompts, wanted, other = [], [], []
    for pair, text, place in zip(pairs, texts, where, strict=True):
        try:
            prompts.append(tuple(tokens_of(text)))
            wanted.append(answer(lm, text, pair.wanted))
            other.append(answer(lm, text, pair.other))
            if wanted[-1] == other[-1]:
                raise UsageError(f"{pair.wanted!r} and {pair.other!r} are one token of {lm.name}: name two")
        except UsageError as error:
            raise UsageError(f"{place}: {error}") from error
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
