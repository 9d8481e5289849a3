"""What llama-server's own endpoint may answer, on a real socket: read where it is whole, a Fault where it is not.

tests/servers asks the real one.
"""

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from plainspoken.llm import Answer, AtPositions, Fault, NextToken, Odds, Request
from plainspoken.llm.llama_wire import LlamaWire
from plainspoken.llm.openai_wire import OpenAiWire

ODDS = {7: 0.02, 8: 0.01, 9: 1e-6}
ASKED = NextToken(((1, 2, 3), (1, 2)), (9, 7, 8))


def honest(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """As llama-server answers: the same odds after every prompt, shares where they are asked for after sampling."""
    if asked.get("post_sampling_probs"):
        whole = sum(ODDS.values())
        drawn = {"id": 8, "top_probs": [{"id": token, "prob": odds / whole} for token, odds in ODDS.items()]}
    else:
        drawn = {"id": 7, "logprob": float(np.log(ODDS[7]))}
    return [
        {
            "index": at, "completion_probabilities": [drawn], "tokens_evaluated": len(prompt), "tokens_predicted": 1,
            "timings/prompt_n": 1,
        }
        for at, prompt in enumerate(asked["prompt"])
    ]  # fmt: skip


@contextmanager
def serving(
    answer: Callable[[dict[str, Any]], Any], status: int | Callable[[dict[str, Any]], int] = 200
) -> Iterator[str]:
    """A server on loopback that answers every POST so; bytes are sent as they are. Its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = answer(asked | {"authorization": self.headers["Authorization"]})
            body = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status(asked) if callable(status) else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def asked(
    url: str, request: Request = ASKED, key_variable: str = "", timeout_s: float = 10, retries: int = 0
) -> Answer:
    async def sent() -> Answer:
        wire = LlamaWire("tiny", url, key_variable, timeout_s, retries)
        try:
            return await wire.send(request)
        finally:
            await wire.close()

    return asyncio.run(sent())


def changed(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    """An honest answer but for these fields of the last prompt's."""

    def answer(asked: dict[str, Any]) -> Any:
        rows = honest(asked)
        rows[-1] |= fields
        return rows

    return answer


def test_shares_and_one_log_probability_make_all_of_them_in_the_order_asked() -> None:
    with serving(honest) as url:
        told = asked(url)
    assert isinstance(told, Odds)
    np.testing.assert_allclose(told.logprob, np.log([[ODDS[9], ODDS[7], ODDS[8]]] * 2), rtol=1e-12)
    assert (told.usage.prompt_tokens, told.usage.cached_tokens, told.usage.requests) == (5, 1, 2)


def test_prompts_are_put_back_in_their_order() -> None:
    """The second call sends them backwards; here each prompt has odds of its own."""

    def by_length(asked: dict[str, Any]) -> list[dict[str, Any]]:
        rows = honest(asked)
        if not asked.get("post_sampling_probs"):
            for row, prompt in zip(rows, asked["prompt"], strict=True):
                row["completion_probabilities"] = [{"id": 7, "logprob": -float(len(prompt))}]
        return rows

    with serving(by_length) as url:
        told = asked(url)
    assert isinstance(told, Odds)
    np.testing.assert_allclose(told.logprob[:, 1], [-3, -2])


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (lambda _: b"<html>", "server", "is it one?"),
        (lambda _: {"error": "busy"}, "server", "is it one?"),
        (lambda _: [3], "server", "is it one?"),
        (lambda asked: honest(asked)[:1], "server", "1 answers for 2 prompts"),
        (changed(index=0), "server", "2 answers for 2 prompts"),
        (lambda _: b"[" * 100_000, "server", "is it one?"),
        (changed(tokens_evaluated=17.0), "server", "no numbers of tokens"),
        (changed(tokens_predicted=-10), "server", "no numbers of tokens"),
        (changed(**{"timings/prompt_n": 10**20}), "server", "no numbers of tokens"),
        (
            changed(completion_probabilities=[{"id": 7, "logprob": -1, "top_probs": [{"id": 7, "prob": 10**400}]}]),
            "server",
            "is it one?",
        ),
        (changed(completion_probabilities=None), "missing probability mass", "nothing was told at prompt"),
        (
            changed(completion_probabilities=[{"id": 7, "logprob": -1.0, "top_probs": [{"id": 7, "prob": 1.0}]}]),
            "missing probability mass",
            "2 of 3 answers were not told at prompt 1",
        ),
        (
            lambda asked: honest(asked) if asked.get("post_sampling_probs") else changed(
                completion_probabilities=[{"id": 7, "logprob": -3.4e38}])(asked),
            "missing probability mass",
            "none of the answers is likely",
        ),
        (
            lambda asked: honest(asked) if asked.get("post_sampling_probs") else changed(
                completion_probabilities=[{"id": 5, "logprob": -1.0}])(asked),
            "missing probability mass",
            "none of the answers is likely",
        ),
    ],
)  # fmt: skip
def test_what_is_not_told_is_a_fault(answer: Callable[[dict[str, Any]], Any], kind: str, reason: str) -> None:
    with serving(answer) as url:
        told = asked(url)
    assert isinstance(told, Fault) and told.kind == kind and reason in told.reason, told


def test_a_key_that_the_server_quotes_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_KEY", "sk-very-secret")
    with serving(lambda asked: {"error": asked["authorization"]}, status=401) as url:
        told = asked(url, key_variable="LLAMA_KEY")
    assert isinstance(told, Fault)
    assert "sk-very-secret" not in told.reason and "[LLAMA_KEY]" in told.reason


def test_positions_of_one_prompt_are_not_its_to_tell() -> None:
    told = asked("http://127.0.0.1:9/v1", AtPositions((1, 2), (0,), (7,)))
    assert isinstance(told, Fault) and "ask by prefixes" in told.reason


def test_every_try_of_both_calls_is_counted() -> None:
    first = itertools.count()
    with serving(honest, lambda body: 503 if next(first) in (0, 2) else 200) as url:  # each call succeeds when retried
        told = asked(url, retries=1)
    assert isinstance(told, Odds) and told.usage.requests == 4 and not told.usage.untold


@pytest.mark.parametrize(("status", "retries", "requests"), [(503, 1, 3), (400, 1, 2)])
def test_where_the_second_call_fails_the_first_is_counted_too(status: int, retries: int, requests: int) -> None:
    """Its tokens are not told with a Fault of the second."""
    with serving(honest, lambda body: 200 if body.get("post_sampling_probs") else status) as url:
        told = asked(url, retries=retries)
    assert isinstance(told, Fault) and (told.usage.requests, told.usage.untold) == (requests, True)


def test_where_the_second_call_is_given_up_every_try_of_it_and_the_first_call_are_counted() -> None:
    calls = list[int]()

    def fails(body: dict[str, Any]) -> int:
        calls.append(200 if body.get("post_sampling_probs") else 503)
        return calls[-1]

    async def given_up(url: str) -> Answer:
        wire = LlamaWire("tiny", url, timeout_s=5.0, retries=20)
        wire.patience_s = 2.5
        try:
            return await wire.send(ASKED)
        finally:
            await wire.close()

    with serving(honest, fails) as url:
        told = asyncio.run(given_up(url))
    assert isinstance(told, Fault) and "raise timeout_s" in told.reason
    assert (told.usage.requests, told.usage.untold) == (len(calls), True) and len(calls) > 2


def test_a_pause_that_the_server_asks_for_fits_within_its_patience() -> None:
    words, both = (kind("tiny", "http://127.0.0.1:9/v1", "", 1.0, 2).patience_s for kind in (OpenAiWire, LlamaWire))
    assert words == 3 * 1.0 + 2 * 120.0 and both == 2 * words
