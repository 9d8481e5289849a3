"""A truthful wire passes, and each way to lie is told apart: the liars are wrapped around the model in process."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from plainspoken.errors import LlmError
from plainspoken.llm.local_wire import LocalWire
from plainspoken.llm.probe import probe
from plainspoken.llm.requests import Answer, AtPositions, Chat, Completion, Fault, NextToken, Odds, Reply, Request

Send = Callable[[Request], Answer]


class Liar:
    """A wire that does to requests and answers what `lie` says."""

    def __init__(self, wire: LocalWire, lie: Callable[[Send, Request], Answer], more: frozenset = frozenset()) -> None:
        self._wire, self._lie, self.abilities = wire, lie, wire.abilities | more

    model = "a liar"

    async def send(self, request: Request) -> Answer:
        return self._lie(self._wire._answer_now, request)  # type: ignore[attr-defined]

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def wire(neox) -> LocalWire:
    wire = LocalWire(neox)
    wire._answer_now = lambda request: wire._answer(request, threading.Event())  # type: ignore[attr-defined]
    return wire


def shifted(step: int) -> Callable[[Send, Request], Answer]:
    def lie(send: Send, request: Request) -> Answer:
        if isinstance(request, AtPositions):
            last = len(request.prompt) - 1
            request = replace(request, positions=tuple(min(max(p + step, 0), last) for p in request.positions))
        return send(request)

    return lie


def drops_at_positions(send: Send, request: Request) -> Answer:
    if isinstance(request, AtPositions):
        request = AtPositions(request.prompt[1:], tuple(max(p - 1, 0) for p in request.positions), request.answers)
    return send(request)


def drops_silently(send: Send, request: Request) -> Answer:
    """The window slides over long prompts, and the usage says nothing."""
    if isinstance(request, NextToken):
        request = replace(request, prompts=tuple(prompt[-8:] for prompt in request.prompts))
    answer = send(request)
    return replace(answer, usage=replace(answer.usage, prompt_tokens=0)) if isinstance(answer, Odds) else answer


def adds_bos(send: Send, request: Request) -> Answer:
    if isinstance(request, NextToken):
        request = replace(request, prompts=tuple((0, *prompt) for prompt in request.prompts))
    return send(request)


def top_of_strings(send: Send, request: Request) -> Answer:
    answer = send(request)
    return replace(answer, logprob=-np.sort(-answer.logprob, axis=1)) if isinstance(answer, Odds) else answer


def by_text(send: Send, request: Request) -> Answer:
    """Two tokens that decode alike get the number of the one that comes last."""
    answer = send(request)
    if isinstance(answer, Odds) and len(request.answers) == 2:
        return replace(answer, logprob=answer.logprob[:, [1, 1]])
    return answer


def backwards(send: Send, request: Request) -> Answer:
    answer = send(request)
    return replace(answer, logprob=answer.logprob[::-1]) if isinstance(request, NextToken) else answer


def ignores_prompts(send: Send, request: Request) -> Answer:
    if isinstance(request, NextToken):
        return send(replace(request, prompts=tuple((1,) for _ in request.prompts)))
    return send(request)


def without_usage(lie: Callable[[Send, Request], Answer]) -> Callable[[Send, Request], Answer]:
    def silent(send: Send, request: Request) -> Answer:
        answer = lie(send, request)
        return answer if isinstance(answer, Fault) else replace(answer, usage=replace(answer.usage, prompt_tokens=0))

    return silent


def no_logprobs(send: Send, request: Request) -> Answer:
    return Reply("The", "length") if isinstance(request, NextToken | AtPositions) else send(request)


def not_told(send: Send, request: Request) -> Answer:
    answer = send(request)
    if isinstance(answer, Odds):
        return replace(answer, logprob=np.where(np.arange(answer.logprob.shape[1]) == 0, -np.inf, answer.logprob))
    return answer


def one_row(send: Send, request: Request) -> Answer:
    answer = send(request)
    return replace(answer, logprob=answer.logprob[:1]) if isinstance(answer, Odds) else answer


def talks_on(send: Send, request: Request) -> Answer:
    return send(replace(request, max_tokens=30) if isinstance(request, Completion | Chat) else request)


def echoes(send: Send, request: Request) -> Answer:
    answer = send(request)
    return replace(answer, text=request.prompt + answer.text) if isinstance(request, Completion) else answer


def no_schema(send: Send, request: Request) -> Answer:
    return send(replace(request, schema=None, max_tokens=4) if isinstance(request, Chat) else request)


LIES = [
    (shifted(-1), "at-positions", "shifted by one .back"),
    (shifted(1), "at-positions", "shifted by one .on"),
    (drops_at_positions, "at-positions", "tokens are dropped"),
    (without_usage(drops_at_positions), "at-positions", "otherwise than after each prefix"),
    (drops_silently, "next-token", "beginning of the prompt changes nothing"),
    (adds_bos, "next-token", "tokens are added"),
    (top_of_strings, "next-token", "not those of the token ids"),
    (by_text, "next-token", "by decoded text"),
    (backwards, "next-token", "another order"),
    (without_usage(ignores_prompts), "next-token", "the prompt is ignored"),
    (no_logprobs, "next-token", "logprobs are ignored"),
    (no_logprobs, "at-positions", "logprobs are ignored"),
    (not_told, "next-token", "not told"),
    (one_row, "at-positions", "1 rows"),
    (talks_on, "completion", "max_tokens is ignored"),
    (talks_on, "chat", "max_tokens is ignored"),
    (echoes, "completion", "gives back its prompt"),
    (no_schema, "schema", "the schema is ignored"),
]


@pytest.mark.parametrize("family", ["neox", "llama"])
def test_a_model_in_process_is_truthful(family, request) -> None:
    wire = LocalWire(request.getfixturevalue(family))
    found = asyncio.run(probe(wire, wire.tokens))
    assert found.truthful == wire.abilities and not found.refused
    found.require("next-token", "at-positions", "completion", "chat")
    with pytest.raises(LlmError, match="cannot be asked for schema: it does not offer this"):
        found.require("schema")


@pytest.mark.parametrize(("lie", "ability", "reason"), LIES, ids=lambda value: str(getattr(value, "__name__", value)))
def test_each_lie_is_told_apart_and_refused_with_the_mend(wire, lie, ability, reason) -> None:
    found = asyncio.run(probe(Liar(wire, lie, frozenset({"schema"})), wire.tokens))
    with pytest.raises(LlmError, match=f"a liar cannot be asked for {ability}: .*{reason}.*; (use|serve) "):
        found.require(ability)


def test_only_what_is_wanted_is_tried(wire) -> None:
    found = asyncio.run(probe(wire, wire.tokens, wanted=["chat"]))
    assert found.truthful == {"chat"}


def test_a_fault_is_the_reason(wire) -> None:
    down = Liar(wire, lambda send, request: Fault("server", "connection refused at 127.0.0.1:9; start it"))
    found = asyncio.run(probe(down, wire.tokens))
    assert found.failed == wire.abilities  # nothing is known of what it can do
    with pytest.raises(LlmError, match="start it"):
        found.require("chat")


def test_a_request_that_is_not_taken_is_no_failure_of_the_server(wire) -> None:
    unable = Liar(wire, lambda send, request: Fault("refused", "400: response_format is not known"))
    found = asyncio.run(probe(unable, wire.tokens, wanted=["chat"]))
    assert set(found.refused) == {"chat"} and not found.failed
