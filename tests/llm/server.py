"""A language model server of our own: the OpenAI protocol on a real socket, its brain and its troubles chosen."""

import asyncio
import json
import threading
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

VOCABULARY = 256


def drawn(ids: Sequence[int]) -> np.random.Generator:
    """Draws that depend on every id: as good as random, always the same."""
    return np.random.default_rng(crc32(np.asarray(ids, np.uint32).tobytes()))


def level_brain(ids: tuple[int, ...]) -> np.ndarray:
    """Natural log-probabilities, float64[256], that depend on every id before."""
    logits = drawn(ids).normal(size=VOCABULARY) * 2
    return logits - np.log(np.exp(logits).sum())


@lru_cache(maxsize=1024)  # what brains say of most places in a prompt is one of a few hundred things
def likeliest(odds: bytes, count: int) -> tuple[tuple[str, float], ...]:
    """The likeliest tokens and their log-probabilities, given as the bytes of float64[v]."""
    told = np.frombuffer(odds)
    return tuple((str(token), float(told[token])) for token in np.argsort(-told)[:count])


def spell(text: str) -> tuple[int, ...]:
    """A byte tokenizer: what the server makes of a text."""
    return tuple(text.encode())


def common(one: bytes, other: bytes) -> int:
    """How many tokens of four bytes two prompts begin with alike."""
    first, second = (np.frombuffer(each, np.uint32, min(len(one), len(other)) // 4) for each in (one, other))
    differ = first != second
    return int(differ.argmax()) if differ.any() else len(differ)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with one request: wait, then this status, these bytes instead of the answer, or a cut line."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False


@dataclass
class Server:
    """What the server knows and has seen. `brain`: token ids to log-probabilities; `reply`: the prompt to a text.

    `trouble`: from (path, how many requests came before, headers) to what goes wrong, None for nothing. `change`:
    alters an answer's body before it is sent (drop the logprobs, shift them). `cached`: the prefix cache, in
    blocks of one token, is on. `top`: tokens whose log-probability `prompt_logprobs` tells at most.
    """

    brain: Callable[[tuple[int, ...]], np.ndarray] = level_brain
    reply: Callable[[str], str] = lambda text: text[-1:]
    trouble: Callable[[str, int, dict[str, str]], Trouble | None] = lambda path, before, headers: None
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body
    cached: bool = True
    top: int = VOCABULARY
    url: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    computed: int = 0
    sent: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    keep_bodies: bool = True
    _prompts: list[bytes] = field(default_factory=list)

    def cache_hits(self, ids: tuple[int, ...]) -> int:
        """Tokens of the prompt that an earlier one began with; at least the last is always computed. Remembers it."""
        prompt = np.asarray(ids, ">u4").tobytes()  # in whose order the one that it shares most with stands beside it
        place = bisect(self._prompts, prompt)
        known = max((common(prompt, other) for other in self._prompts[max(place - 1, 0) : place + 1]), default=0)
        self._prompts.insert(place, prompt)
        hits = min(known, len(ids) - 1) if self.cached and ids else 0
        self.sent += len(ids)
        self.computed += len(ids) - hits
        return hits

    def completions(self, asked: dict[str, Any]) -> dict[str, Any]:
        """`/v1/completions`: a text, a list of token ids, or a list of lists of them."""
        prompt = asked["prompt"]
        if isinstance(prompt, str):
            ids = spell(prompt)
            choice = {"index": 0, "text": self.reply(prompt), "finish_reason": "stop"}
            return self._body("text_completion", [choice], len(ids), self.cache_hits(ids))
        prompts = [tuple(each) for each in (prompt if prompt and isinstance(prompt[0], list) else [prompt])]
        choices = [self._choice(index, ids, asked) for index, ids in enumerate(prompts)]
        hits = sum(self.cache_hits(ids) for ids in prompts)
        return self._body("text_completion", choices, sum(map(len, prompts)), hits)

    def chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        """`/v1/chat/completions`."""
        text = "\n".join(message["content"] for message in asked["messages"])
        ids = spell(text)
        message = {"role": "assistant", "content": self.reply(text)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return self._body("chat.completion", [choice], len(ids), self.cache_hits(ids))

    def _choice(self, index: int, ids: tuple[int, ...], asked: dict[str, Any]) -> dict[str, Any]:
        odds = self.brain(ids)
        drawn = int(odds.argmax())
        choice: dict[str, Any] = {"index": index, "text": f"<{drawn}>", "finish_reason": "length"}
        if asked.get("logprobs") is not None:
            wanted = asked.get("logprob_token_ids") or np.argsort(-odds)[: asked["logprobs"]].tolist()
            top = {f"token_id:{token}": float(odds[token]) for token in [drawn, *wanted]}
            choice["logprobs"] = {"tokens": [f"token_id:{drawn}"], "top_logprobs": [top]}
        if asked.get("prompt_logprobs"):
            count = min(asked["prompt_logprobs"], self.top)
            choice["prompt_logprobs"] = [None] + [self._entry(ids[:at], count) for at in range(1, len(ids))]
        return choice

    def _entry(self, ids: tuple[int, ...], count: int) -> dict[str, Any]:
        told = likeliest(self.brain(ids).astype(np.float64).tobytes(), count)
        return {token: {"logprob": logprob} for token, logprob in told}

    def _body(self, kind: str, choices: list[dict[str, Any]], prompt: int, hits: int) -> dict[str, Any]:
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": len(choices),
            "prompt_tokens_details": {"cached_tokens": hits},
        }
        return {"object": kind, "choices": choices, "usage": usage}

    async def handle(self, request: Request) -> Response:
        """One request: its trouble, if it is to have one, or its answer."""
        path = request.url.path
        before = self.seen.total()
        self.seen[path] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            asked = json.loads(await request.body() or b"{}")
            if self.keep_bodies:
                self.bodies.append(asked)
            trouble = self.trouble(path, before, dict(request.headers))
            if trouble is not None:
                await asyncio.sleep(trouble.delay_s)
                if trouble.drop:
                    return _Dropped()
                if trouble.body is not None or trouble.status != 200:
                    return Response(trouble.body or b"", trouble.status, trouble.headers)
            if path == "/v1/models":
                return JSONResponse({"object": "list", "data": [{"id": "test", "object": "model"}]})
            return JSONResponse(self.change(self.chat(asked) if "chat" in path else self.completions(asked)))
        finally:
            self.in_flight -= 1


class _Dropped(Response):
    """A body shorter than it says: the connection is cut in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]}
        await send(head)
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise ConnectionAbortedError("the test cuts the line")


@contextmanager
def serve(server: Server, port: int = 0) -> Iterator[Server]:
    """The server on a port of loopback (0: any), in a thread of its own, stopped at the end."""
    paths = ["/v1/completions", "/v1/chat/completions", "/v1/models"]
    app = Starlette(routes=[Route(path, server.handle, methods=["GET", "POST"]) for path in paths])
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not running.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the test server did not start"
        time.sleep(0.01)
    server.url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        running.should_exit = True
        thread.join(timeout=10)
