"""The bodies of an OpenAI-compatible server read into answers; what is not told is never filled in."""

from dataclasses import replace
from typing import Any

import numpy as np

from plainspoken.llm.requests import AtPositions, FaultKind, Finish, NextToken, Odds, Reply, Usage, is_count

ASK_BY_ID = (
    "the server has to honour logprob_token_ids and return_tokens_as_token_ids (vLLM does); "
    "another simulator (structured) needs no log-probabilities"
)

_ONE = 1.02
"""The most that probabilities may sum to: a softmax in bfloat16 is off by as much."""


class BadAnswer(Exception):
    """A body that is not what was asked for; becomes a Fault of this kind."""

    def __init__(self, kind: FaultKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FaultKind = kind


def with_tokens(cost: Usage, told: dict[str, Any], prompts: int = 1) -> Usage:
    """The cost with the tokens that the body says; what it does not say, or says as no number, counts 0 and as untold.

    Of the cached tokens of several prompts nothing is sure: vLLM (0.32) tells the last one's only, and none where there
    are none. They are so many at least.
    """
    said = told.get("usage")
    usage = said if isinstance(said, dict) else {}
    details = usage.get("prompt_tokens_details")
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    if cached is not None and cached > (prompt or 0):  # a prefix cache has no more of a prompt than there is
        cached = None
    return replace(
        cost,
        prompt_tokens=prompt or 0,
        cached_tokens=cached or 0,
        completion_tokens=completion or 0,
        untold=not prompt or completion is None,
        cached_untold=cached is None or prompts > 1,
    )


def _count(said: dict[str, Any], name: str) -> int | None:
    value = said.get(name)
    return value if is_count(value) else None


def read_chat(told: dict[str, Any], usage: Usage) -> Reply:
    """The reply of `/chat/completions`. Refused: by the model (`refusal`) or by a filter. Empty: parse."""
    choice = _choices(told, 1)[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadAnswer("server", "a choice holds no message")
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        raise BadAnswer("refused", f"the model refused: {message.get('refusal') or 'content filter'}")
    text = message.get("content")
    if not isinstance(text, str) or not text.strip():
        raise BadAnswer("parse", "the reply is empty; where the model thinks before it answers, raise max_tokens")
    return Reply(text, _finish(choice), usage)


def read_completion(told: dict[str, Any], usage: Usage) -> Reply:
    """The reply of `/completions` to one prompt; it may be empty, where the model ends at once."""
    choice = _choices(told, 1)[0]
    if choice.get("finish_reason") == "content_filter":
        raise BadAnswer("refused", "the reply was cut off by a content filter")
    if not isinstance(choice.get("text"), str):
        raise BadAnswer("server", "a choice holds no text")
    return Reply(choice["text"], _finish(choice), usage)


def read_next_token(told: dict[str, Any], request: NextToken, usage: Usage) -> Odds:
    """Log-probabilities of the answers after each prompt: the first drawn token's, keyed `token_id:17`."""
    choices = _choices(told, len(request.prompts))
    rows = [_drawn(choice, request.answers, f"prompt {at}") for at, choice in enumerate(choices)]
    return odds_of(rows, request.answers, usage)


def read_positions(told: dict[str, Any], request: AtPositions, usage: Usage) -> Odds:
    """Log-probabilities after prompt[: p + 1], from vLLM's `prompt_logprobs`: entry p + 1 is token p + 1's.

    After the whole prompt they are the drawn token's. Entries hold the likeliest tokens only: an answer that is not
    among them was not told.
    """
    choice = _choices(told, 1)[0]
    entries = choice.get("prompt_logprobs")
    length = len(request.prompt)
    if not isinstance(entries, list) or len(entries) != length:
        raise BadAnswer("missing probability mass", f"no prompt_logprobs for the prompt's {length} tokens; {ASK_BY_ID}")
    rows = []
    for position in request.positions:
        if position == length - 1:
            rows.append(_drawn(choice, request.answers, f"position {position}"))
            continue
        entry = entries[position + 1] or {}
        odds = {key: value.get("logprob") for key, value in entry.items() if isinstance(value, dict)}
        rows.append(_row(odds, "", request.answers, f"position {position}"))
    return odds_of(rows, request.answers, usage)


def odds_of(rows: list[list[float]], answers: tuple[int, ...], usage: Usage) -> Odds:
    """The rows as an answer. Raises BadAnswer for probabilities of different tokens that sum to more than 1."""
    logprob = np.array(rows, np.float64).reshape(len(rows), len(answers))
    sums = np.exp(logprob[:, np.unique(answers, return_index=True)[1]]).sum(1)
    if sums.max(initial=0) > _ONE:
        reason = (
            f"the answers' probabilities sum to {sums.max():.3g}: these are no log-probabilities of the whole softmax"
        )
        raise BadAnswer("server", f"{reason}; {ASK_BY_ID}")
    return Odds(logprob, usage)


def _drawn(choice: dict[str, Any], answers: tuple[int, ...], where: str) -> list[float]:
    top = (choice.get("logprobs") or {}).get("top_logprobs") or [None]
    return _row(top[0] or {}, "token_id:", answers, where)


def _row(odds: dict[str, Any], prefix: str, answers: tuple[int, ...], where: str) -> list[float]:
    told = [odds.get(f"{prefix}{answer}") for answer in answers]
    row = [
        float(value)
        for value in told
        if isinstance(value, int | float) and not isinstance(value, bool) and -np.inf < value <= 1e-3
    ]
    if len(row) < len(answers):
        missing = len(answers) - len(row)
        reason = f"log-probabilities of {missing} of {len(answers)} answers were not told at {where}"
        raise BadAnswer("missing probability mass", f"{reason}; {ASK_BY_ID}")
    return row


def _choices(told: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The choices by their index, one a prompt."""
    choices = told.get("choices")
    if not isinstance(choices, list) or len(choices) != count or not all(isinstance(each, dict) for each in choices):
        found = len(choices) if isinstance(choices, list) else "no"
        raise BadAnswer("server", f"{found} choices for {count} prompts; look at the server's log")
    ordered = sorted(choices, key=lambda choice: choice.get("index", 0))
    if count > 1 and [choice.get("index") for choice in ordered] != list(range(count)):
        raise BadAnswer("server", f"the choices for {count} prompts are not numbered 0 to {count - 1}")
    return ordered


_ENDS: dict[object, Finish] = {"stop": "stop", "eos": "stop", "eos_token": "stop", "length": "length"}


def _finish(choice: dict[str, Any]) -> Finish:
    """Raises BadAnswer for words that end for any other reason than their own end or the limit: they are not whole."""
    told = choice.get("finish_reason")
    if told in _ENDS:
        return _ENDS[told]
    raise BadAnswer("server", f"the answer ended with finish_reason {told!r}, which is neither its end nor its limit")
