"""Levels out of a reply in words: a JSON list of matches, read strictly. What can be doubted tells nothing."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plainspoken.llm.requests import Answer, Fault, Reply
from plainspoken.simulators.levels import TOP, Levels

FIELD = "levels"
_SHOWN = 80  # characters of a reply that a failure tells


@dataclass(frozen=True)
class Wanted:
    """What a reply is about: the `tokens`' number of each pair, and its explanation's.

    `explanations`: None where there is one alone, of which a match says [token, level]; else a match says [explanation,
    token, level], they are numbered from 1 to `most`. A reply may tell of every explanation at every one of the tokens;
    what it says of pairs that are not among these is not used.
    """

    tokens: Sequence[int]
    explanations: Sequence[int] | None = None
    most: int = 1

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(explanation, token) of each pair, the explanation 1 where there is one alone."""
        return list(zip(self.explanations or [1] * len(self.tokens), self.tokens, strict=True))


def schema(numbers: int) -> str:
    """The JSON schema of a list of matches of so many integers each.

    The same for every text, so that a server prepares it once; what it cannot say is checked by `read_levels`.
    """
    match = {"type": "array", "items": {"type": "integer"}, "minItems": numbers, "maxItems": numbers}
    return json.dumps(
        {
            "type": "object",
            "properties": {FIELD: {"type": "array", "items": match}},
            "required": [FIELD],
            "additionalProperties": False,
        }
    )


def read_levels(answer: Answer, wanted: Wanted) -> Levels | Fault:
    """The level of each pair, in their order: what the reply says, 0 of those that it leaves out.

    A Fault for a reply that is cut off, refused, empty, no JSON, more than one JSON value, or anything else than a list
    of matches (by itself, or in an object as `levels`) with a level from 0 to 9, each of another pair, of explanations
    that there are and tokens that are asked about.
    """
    if isinstance(answer, Fault):
        return answer
    if not isinstance(answer, Reply):
        return Fault("server", "it answered with log-probabilities where words were asked for")
    if answer.finish == "refused":
        return Fault("refused", "the model refused")
    if answer.finish == "length":
        return Fault("cut answer", f"the reply is cut off: {_shown(answer.text)}")
    try:
        said = read_matches(the_json(answer.text), wanted)
    except _Doubt as doubt:
        return Fault("parse", f"{doubt}: {_shown(answer.text)}")
    level = np.array([said.get(pair, 0) for pair in wanted.pairs], np.float64)
    return Levels(level, np.full(len(level), np.nan), np.ones(len(level), bool))


class _Doubt(Exception):
    """Why a reply cannot be told to mean one thing; caught in `read_levels`."""


def the_json(text: str) -> Any:
    """The one JSON array or object of a text; prose and code fences around it are passed over.

    Raises _Doubt where there is none or more than one, or where a bracket stands anywhere that opens or closes neither:
    a list that was cut off would otherwise leave its last whole match behind.
    """
    found, at = list[Any](), 0
    while bracket := _BRACKET.search(text, at):
        try:
            value, at = _DECODER.raw_decode(text, bracket.start())
        except (ValueError, RecursionError) as error:
            raise _Doubt("what stands in brackets is no JSON") from error
        found.append(value)
    if len(found) != 1:
        raise _Doubt(f"{len(found) or 'no'} JSON lists where one was asked for")
    return found[0]


def read_matches(value: Any, wanted: Wanted) -> dict[tuple[int, int], int]:
    """Level by (explanation, token). Raises _Doubt for a value of another form, and for what was not asked for."""
    matches = value.get(FIELD) if isinstance(value, dict) and value.keys() == {FIELD} else value
    alone = wanted.explanations is None
    numbers, form = (2, "pair of integers") if alone else (3, "three integers")
    if not isinstance(matches, list):
        raise _Doubt(f"no list of {'pairs' if alone else 'matches'}")
    tokens, said = frozenset(wanted.tokens), dict[tuple[int, int], int]()
    for match in matches:
        # bool is an int in Python, and none here.
        if not isinstance(match, list) or len(match) != numbers or any(type(each) is not int for each in match):
            raise _Doubt(f"something in the list is no {form}")
        explanation, token, level = [1, *match] if alone else match
        if not 1 <= explanation <= wanted.most:
            raise _Doubt(f"there is no explanation {explanation}")
        if token not in tokens:
            raise _Doubt(f"token {token} was not asked about")
        if (explanation, token) in said:
            raise _Doubt(f"token {token} stands twice{'' if alone else f' for explanation {explanation}'}")
        if not 0 <= level <= TOP:
            raise _Doubt(f"{level} is no level from 0 to {TOP}")
        said[explanation, token] = level
    return said


def _one_each(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        raise ValueError("a key stands twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")  # Python's decoder would take NaN and Infinity


_BRACKET = re.compile(r"[\[\]{}]")
_DECODER = json.JSONDecoder(object_pairs_hook=_one_each, parse_constant=_no_number)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
