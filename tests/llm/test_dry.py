"""A dry run counts what the true one costs, and sends nothing."""

import asyncio

import numpy as np
import pytest

from llm.server import Server, serve
from plainspoken.config import LlmServiceConfig
from plainspoken.errors import LlmError
from plainspoken.llm import AtPositions, Chat, Completion, Fault, Message, NextToken, Odds, Reply, open_dry, open_llm
from plainspoken.llm.openai_wire import OpenAiWire

TEXT = tuple(range(10, 50))
PREFIXES = tuple(TEXT[: p + 1] for p in (3, 17, 39, 17))
ASKED = [
    NextToken(PREFIXES, (5, 6, 7)),
    NextToken(((*TEXT[:30], 1, 2), (*TEXT[:30], 3)), (5, 6)),
    AtPositions(TEXT, (7, 30), (5, 6)),
    AtPositions((*TEXT[:20], 9, 9), (19, 20), (5, 6)),
    NextToken((TEXT,), (5,)),
]
WORDS = [
    Completion("Once upon a time", 3),
    Completion("Once upon a day", 3),
    Chat((Message("system", "Be brief."), Message("user", "Hi")), 4),
]


def costs(answers):
    return [(a.usage.prompt_tokens, a.usage.cached_tokens) for a in answers]


def test_in_process_the_estimate_is_what_it_costs(neox_folder, tmp_path) -> None:
    config = LlmServiceConfig(model=str(neox_folder))
    dry, real = open_dry(config, lambda request: "dry"), open_llm(config, tmp_path, device="cpu")
    dry.require("chat", "at-positions")
    with pytest.raises(LlmError, match="schema"):
        dry.require("schema")
    told, true = list(dry.asker.ask(ASKED + WORDS, "s")), list(real.asker.ask(ASKED + WORDS, "s"))
    assert costs(told) == costs(true)
    assert dry.context == real.context
    for mine, yours in zip(told, true, strict=True):
        assert mine.usage.completion_tokens >= yours.usage.completion_tokens
        assert type(mine) is type(yours)
    assert isinstance(told[0], Odds)
    np.testing.assert_allclose(np.exp(told[0].logprob).sum(1), 1)
    assert isinstance(told[-1], Reply) and told[-1].text == "dry"
    dry.close()
    real.close()


def test_of_a_server_the_estimate_is_what_a_server_with_a_prefix_cache_counts(neox_folder) -> None:
    config = LlmServiceConfig(
        service="openai",
        model="m",
        base_url="http://127.0.0.1:1/v1",
        tokenizer=str(neox_folder),
        key_variable="NOT_SET",
    )
    asked = [request for request in ASKED if isinstance(request, NextToken)]
    dry = open_dry(config, lambda request: "dry")  # nobody listens at port 1, and no key is wanted
    told = list(dry.asker.ask(asked, "s"))
    assert dry.cache is None and dry.asker.spent()["s"].requests == len(asked)
    dry.close()
    with serve(Server()) as server:

        async def one_by_one():
            wire = OpenAiWire("m", server.url)
            answers = [await wire.send(request) for request in asked]
            await wire.close()
            return answers

        true = asyncio.run(one_by_one())
    assert costs(told) == costs(true)
    assert [a.usage.completion_tokens for a in told] == [a.usage.completion_tokens for a in true]


def test_what_would_not_fit_is_a_fault_in_a_dry_run_too(neox_folder) -> None:
    dry = open_dry(LlmServiceConfig(model=str(neox_folder), context=8), lambda request: "dry")
    answers = list(dry.asker.ask([NextToken((TEXT,), (5,)), Completion("a b c d e f g h", 8), NextToken(((),), (5,))]))
    dry.close()
    assert [a.kind for a in answers if isinstance(a, Fault)] == ["beyond context", "beyond context", "refused"]
    assert all(a.usage.requests == 0 for a in answers)
