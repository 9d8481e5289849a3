"""A prompt that a server cuts, or adds to, is told by the tokens that it says it read: that is never an answer."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from llm.server import Server, serve
from llm.test_llama_wire import asked as asked_of_llama
from llm.test_llama_wire import changed, serving
from plainspoken.llm import Answer, AtPositions, Chat, Completion, Fault, Message, NextToken, Odds, Reply, Request
from plainspoken.llm.openai_wire import OpenAiWire
from plainspoken.llm.tokens import LlmTokens

ODDS = (NextToken(((1, 2, 3), (1, 2)), (5, 6)), AtPositions((1, 2, 3, 4, 5), (0, 4), (5, 6)))
LONG = "and Lily and Lily\n" * 30 + "yes"
WORDS = (Chat((Message("system", "Say."), Message("user", LONG)), 4), Completion(LONG, 4))


def reading(read: Callable[[int], int]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A server that reads other than all tokens of a prompt, and tells it."""
    return lambda body: {**body, "usage": {**body["usage"], "prompt_tokens": read(body["usage"]["prompt_tokens"])}}


def asked(
    request: Request, change: Callable[[dict[str, Any]], dict[str, Any]], tokens: LlmTokens | None = None
) -> Answer:
    async def once(url: str) -> Answer:
        wire = OpenAiWire("test", url, retries=0, timeout_s=20.0, tokens=tokens, top=256)
        try:
            return await wire.send(request)
        finally:
            await wire.close()

    with serve(Server(change=change)) as server:
        return asyncio.run(once(server.url))


@pytest.mark.parametrize("request_", ODDS, ids=["prefixes", "positions"])
def test_token_ids_are_counted_exactly(request_: Request) -> None:
    assert isinstance(asked(request_, reading(lambda sent: sent)), Odds)
    cut, added = asked(request_, reading(lambda sent: sent - 1)), asked(request_, reading(lambda sent: sent + 1))
    assert isinstance(cut, Fault) and isinstance(added, Fault)
    assert cut.kind == "cut prompt" and "of 5 prompt tokens it read 4" in cut.reason and "context" in cut.reason
    assert added.kind == "server" and "BOS" in added.reason and "127.0.0.1" in added.reason
    assert cut.usage.prompt_tokens == 4, "what it cost is counted all the same"


@pytest.mark.parametrize("request_", WORDS, ids=["chat", "completion"])
def test_a_text_that_is_clearly_cut_is_none_and_a_template_s_few_tokens_are_no_cut(
    request_: Request, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    """What the server's template adds, or trims, is not told apart from a cut of as few tokens; a tenth is."""
    tokens = LlmTokens.of(byte_tokenizer)
    texts = ("Say.", LONG) if isinstance(request_, Chat) else (LONG,)
    ours = sum(len(tokens.encode(text)) for text in texts)
    assert ours > 100
    for read in (ours + 40, ours, ours - 4):
        assert isinstance(asked(request_, reading(lambda _, read=read: read), tokens), Reply), read
    cut = asked(request_, reading(lambda _: int(0.9 * ours) - 8), tokens)
    assert isinstance(cut, Fault) and cut.kind == "cut prompt"
    assert "it was cut" in cut.reason and "context" in cut.reason and "`tokenizer`" in cut.reason
    assert isinstance(asked(request_, reading(lambda _: 10)), Reply), "without a tokenizer there is no count of ours"


@pytest.mark.parametrize("request_", [*ODDS, *WORDS])
def test_what_is_not_told_is_not_held_against_it(request_: Request, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    untold = lambda body: {**body, "usage": None}  # noqa: E731
    assert not isinstance(asked(request_, untold, LlmTokens.of(byte_tokenizer)), Fault)


def test_llama_server_s_own_count_is_held_against_each_prompt() -> None:
    for evaluated, kind, words in ((1, "cut prompt", "it read 1: tokens are dropped"), (3, "server", "added")):
        with serving(changed(tokens_evaluated=evaluated)) as url:
            told = asked_of_llama(url)
        assert isinstance(told, Fault) and told.kind == kind and words in told.reason, told
        assert told.usage.requests == 2 and "127.0.0.1" in told.reason
