"""What is sent is counted try by try, also of calls that are given up while their next try is waited for."""

import asyncio

import pytest

from llm.server import Server, Trouble, serve
from plainspoken.llm.llama_wire import LlamaWire
from plainspoken.llm.openai_wire import OpenAiWire
from plainspoken.llm.requests import Answer, Completion, Fault, NextToken, Request
from plainspoken.llm.wire import Wire

WORD, LIST = Completion("abc", 1), NextToken(((1, 2),), (48, 49))


async def given_up(wire: OpenAiWire | LlamaWire, request: Request) -> list[Answer]:
    """What two calls side by side end with, given up in the pause before a third try or a later one."""
    for each in (wire, getattr(wire, "_words", wire)):
        each.patience_s = 2.5
    try:
        return list(await asyncio.gather(wire.send(request), wire.send(request)))
    finally:
        await wire.close()


@pytest.mark.parametrize(
    ("kind", "request_"), [(OpenAiWire, WORD), (OpenAiWire, LIST), (LlamaWire, WORD)], ids=["words", "odds", "llama"]
)
def test_of_calls_that_are_given_up_every_try_is_counted(
    kind: type[OpenAiWire] | type[LlamaWire], request_: Request
) -> None:
    with serve(Server(trouble=lambda *_: Trouble(503))) as server:
        wire = kind("test", server.url, timeout_s=5.0, retries=20)
        assert isinstance(wire, Wire)
        answers = asyncio.run(given_up(wire, request_))
    counts = []
    for answer in answers:
        assert isinstance(answer, Fault) and "raise timeout_s" in answer.reason and answer.usage.untold
        counts.append(answer.usage.requests)
    assert sum(counts) == server.seen.total() and min(counts) > 1
