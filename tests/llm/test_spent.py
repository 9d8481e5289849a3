"""What asking cost is counted to the last token, and what is not told, or was paid for earlier, is called so."""

from pathlib import Path
from typing import Any

import pytest

from llm.server import Server, Trouble, serve
from plainspoken.config import LlmServiceConfig
from plainspoken.llm import AnswerCache, Asker, Chat, Completion, Limits, Message, NextToken, Request, Spent, open_llm
from plainspoken.llm.openai_wire import OpenAiWire
from plainspoken.llm.spent import probing

WORD, LIST = Completion("abc", 1), NextToken(((1, 2), (1, 2, 3)), (48, 49))


def spent_on(url: str, requests: list[Request], cache: Path | None = None, **settings: Any) -> Spent:
    kept = None if cache is None else AnswerCache(cache)
    asker = Asker(OpenAiWire("test", url, **{"retries": 0, "timeout_s": 5.0, **settings}), kept, Limits(1))
    try:
        list(asker.ask(requests, "s"))
        return asker.spent()["s"]
    finally:
        asker.close()
        if kept is not None:
            kept.close()


def test_what_an_earlier_attempt_paid_for_is_counted_once_and_nothing_of_this_one_twice(tmp_path: Path) -> None:
    asked = [WORD, Completion("abcd", 1), LIST]
    with serve(Server()) as server:
        first = spent_on(server.url, asked, tmp_path / "c.sqlite")
        again = spent_on(
            server.url, [*asked, *asked, Completion("new", 1), Completion("new", 1)], tmp_path / "c.sqlite"
        )
    assert (first.earlier_requests, first.earlier_prompt_tokens) == (0, 0)
    assert (again.asked, again.from_cache, again.requests) == (8, 7, 1)
    paid = (again.earlier_requests, again.earlier_prompt_tokens, again.earlier_completion_tokens)
    assert paid == (first.requests, first.prompt_tokens, first.completion_tokens) == (3, 3 + 4 + 5, 4)
    assert (first + again) - again == first


def told(**usage: Any) -> Any:
    return lambda body: {**body, "usage": usage or None}


@pytest.mark.parametrize(
    ("change", "request_", "untold", "cached_untold"),
    [
        (lambda body: body, WORD, 0, 0),
        (told(), WORD, 1, 1),
        (told(prompt_tokens=3), WORD, 1, 1),
        (told(prompt_tokens=3, completion_tokens=1), WORD, 0, 1),
        (told(prompt_tokens="3", completion_tokens=True), WORD, 1, 1),
        (told(prompt_tokens=3, completion_tokens=1, prompt_tokens_details={"cached_tokens": 4}), WORD, 0, 1),
        (lambda body: body, LIST, 0, 1),  # vLLM tells the last prompt's only: how many of the others nobody knows
    ],
)
def test_what_a_server_does_not_tell_is_counted_as_not_told(
    change: Any, request_: Request, untold: int, cached_untold: int
) -> None:
    with serve(Server(change=change)) as server:
        spent = spent_on(server.url, [request_])
    assert (spent.untold, spent.cached_untold) == (untold, cached_untold)
    assert spent.cached_tokens <= spent.prompt_tokens, "what was computed is never understated"


@pytest.mark.parametrize(
    ("trouble", "untold"), [(Trouble(500), 1), (Trouble(delay_s=3.0), 1), (Trouble(400), 0), (Trouble(429), 0)]
)
def test_a_request_that_failed_may_have_cost_what_nobody_told(trouble: Trouble, untold: int) -> None:
    """A server that fails or is given up may have computed; one that refuses has not."""
    with serve(Server(trouble=lambda path, before, headers: trouble)) as server:
        spent = spent_on(server.url, [WORD], timeout_s=0.5)
    assert (spent.requests, spent.untold, spent.prompt_tokens) == (1, untold, 0)


def test_trying_a_model_out_is_counted_and_keeps_to_the_limits(neox_folder: Path, tmp_path: Path) -> None:
    service = LlmServiceConfig("openai", "test", tokenizer=str(neox_folder), retries=0)
    with serve(Server()) as server:
        limits = Limits(concurrency=4, per_minute=6000)
        llm = open_llm(LlmServiceConfig(**{**vars(service), "base_url": server.url}), tmp_path, limits=limits)
        llm.require("chat", "next-token")
        spent = llm.asker.spent()
        list(llm.asker.ask([Chat((Message("user", "a"),), 1)], "s"))
        llm.close()
        assert limits.start(_nothing()).result() is None, "limits that were given are the giver's to close"
        limits.close()
    assert set(spent) == {probing("")}
    assert spent[probing("")].requests == server.seen.total() - 1 > 5
    assert spent[probing("")].prompt_tokens > 0


async def _nothing() -> None:
    pass
