"""A language model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, OpenRouter, OpenAI."""

import asyncio
import json
import time
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from plainspoken.errors import ConfigError
from plainspoken.llm.fit import misfit
from plainspoken.llm.key import Key, refuse_in_address
from plainspoken.llm.openai_answers import (
    BadAnswer,
    read_chat,
    read_completion,
    read_next_token,
    read_positions,
    with_tokens,
)
from plainspoken.llm.openai_faults import fault_of
from plainspoken.llm.requests import (
    Ability,
    Answer,
    AtPositions,
    Chat,
    Completion,
    Fault,
    NextToken,
    Reply,
    Request,
    Usage,
)
from plainspoken.llm.tokens import LlmTokens
from plainspoken.llm.tries import Sent, count, tries
from plainspoken.llm.whole import Count, counter, misread

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import AsyncOpenAI

EVERYTHING: frozenset[Ability] = frozenset({"chat", "schema", "completion", "next-token", "at-positions"})
NO_KEY = "none"
"""What is sent where no key is named: local servers want the header, not its value."""
_LONGEST_PAUSE_S = 120.0  # what the package waits at most before it tries again, where Retry-After wants that
_NOT_AN_API = "is the base URL an API's (…/v1)?"


class OpenAiWire:
    """The requests in the words of the protocol; the `openai` package sends them.

    Its own retries are used (3.54: connection errors, time-outs, 408, 409, 429, 5xx; half a second doubled up to eight,
    less up to a quarter at random; a Retry-After of up to two minutes is obeyed, a longer one ends the retries). Bodies
    are read by us, not by its pydantic models, which take longer than the request over loopback.

    `key_variable`: the environment variable that holds the key ("": none). The key is sent and never shown.
    `tokens`, `context`: where both are given, prompts that do not fit the server's context are not sent. With `tokens`,
    a text of which the server says that it read clearly less is a Fault.
    `top`: how many prompt log-probabilities a position `AtPositions` asks for; vLLM's --max-logprobs allows 20.

    Raises ConfigError for a base URL with a password in it, an unset variable, or without the `openai` package.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        key_variable: str = "",
        timeout_s: float = 60.0,
        retries: int = 4,
        abilities: frozenset[Ability] = EVERYTHING,
        top: int = 20,
        tokens: LlmTokens | None = None,
        context: int = 0,
    ) -> None:
        self._model, self._url = model, base_url
        self._abilities, self._top = abilities, top
        self._timeout_s, self._tokens, self._context = timeout_s, tokens, context
        self._count = counter(tokens)
        # The package waits so long for each piece of an answer: one that trickles in would never be given up.
        self.patience_s = patience_s(timeout_s, retries)
        self._key = Key.of(key_variable)
        self._client = open_client(base_url, self._key.value or NO_KEY, timeout_s, retries)

    @property
    def model(self) -> str:
        """The model's name at the server, with the server's address: two servers may mean different weights by it.

        And whether the system message is put within the first user's, since prompts are then others (`_body`).
        """
        folds = self._tokens is not None and not self._tokens.knows_system
        return f"{self._model} at {self._url}{', the system message within the first user message' if folds else ''}"

    @property
    def abilities(self) -> frozenset[Ability]:
        """What it can be asked, as far as it was told."""
        return self._abilities

    async def send(self, request: Request) -> Answer:
        """One call to the server, its retries included; a Fault for whatever goes wrong.

        What is known not to fit the context is not sent.
        """
        from openai import OpenAIError

        if fault := misfit(request, self._tokens, self._context, drawn=1):
            return fault
        path, body = self._body(request)
        begun, sent = time.perf_counter(), Sent.counted()
        try:
            async with asyncio.timeout(self.patience_s):
                response = await self._post(path, body)
        except TimeoutError:
            reason = f"{self._url} did not end its answer in {self.patience_s:g} s, all tries together; raise timeout_s"
            cost = Usage(requests=sent.tries, seconds=time.perf_counter() - begun, untold=sent.tries > 0)
            return Fault("server", reason, cost)
        except OpenAIError as error:
            return self._hidden(fault_of(error, self._url, self._key, self._timeout_s, time.perf_counter() - begun))
        cost = Usage(requests=tries(response.request), seconds=time.perf_counter() - begun)
        return self._hidden(_read(request, response, cost, self._url + path, self._count))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _post(self, path: str, body: dict[str, Any]) -> "Response":
        from httpx2 import Response

        return await self._client.post(path, cast_to=Response, body=body)

    def _body(self, request: Request) -> tuple[str, dict[str, Any]]:
        common: dict[str, Any] = {"model": self._model}
        if isinstance(request, Chat | Completion):
            common |= {
                "max_tokens": request.max_tokens,
                "temperature": request.temperature,
                "seed": request.seed,
            }
        if isinstance(request, Chat):
            turns = request.messages if self._tokens is None else self._tokens.for_template(request.messages)
            messages = [{"role": message.role, "content": message.content} for message in turns]
            return "/chat/completions", common | {"messages": messages} | _schema(request)
        if isinstance(request, Completion):
            stop = {"stop": list(request.stop)} if request.stop else {}
            return "/completions", common | {"prompt": request.prompt} | stop
        # One token is drawn, because a server need not allow none; it is thrown away. Its log-probabilities are asked
        # for by id: by rank an answer that is unlikely would be left out, by text two tokens may share one.
        common |= {
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": len(request.answers),
            "logprob_token_ids": list(request.answers),
            "return_tokens_as_token_ids": True,
        }
        if isinstance(request, AtPositions):
            return "/completions", common | {"prompt": list(request.prompt), "prompt_logprobs": self._top}
        return "/completions", common | {"prompt": [list(prompt) for prompt in request.prompts]}

    def _hidden(self, answer: Answer) -> Answer:
        """The answer without the key. A reply that quotes it is not altered: it is none."""
        if isinstance(answer, Fault):
            return replace(answer, reason=self._key.hide(answer.reason))
        if isinstance(answer, Reply) and self._key.shown_in(answer.text):
            reason = f"the reply quotes the key in {self._key.variable}, so it is not kept; do not trust this server"
            return Fault("server", f"{self._url}: {reason}", answer.usage)
        return answer


def _read(request: Request, response: "Response", cost: Usage, where: str, count: Count | None) -> Answer:
    """The answer in a body. `cost`: its tries and seconds; the tokens are what the body says, also for a Fault.

    An answer to less or more than was sent is none (`misread`).
    """
    try:
        told = response.json()
    except (ValueError, RecursionError) as error:
        return Fault("server", f"{where}: the body is not JSON ({error}); {_NOT_AN_API}", cost)
    if not isinstance(told, dict):
        return Fault("server", f"{where}: the body is no JSON object; {_NOT_AN_API}", cost)
    cost = with_tokens(cost, told, len(request.prompts) if isinstance(request, NextToken) else 1)
    if fault := misread(request, cost, count):
        return replace(fault, reason=f"{where}: {fault.reason}")
    try:
        match request:
            case Chat():
                return read_chat(told, cost)
            case Completion():
                return read_completion(told, cost)
            case AtPositions():
                return read_positions(told, request, cost)
            case NextToken():
                return read_next_token(told, request, cost)
    except BadAnswer as error:
        return Fault(error.kind, f"{where}: {error}", cost)
    except (AttributeError, KeyError, TypeError, OverflowError) as error:  # a text where an object should be, say
        reason = f"the body is not of the protocol ({error}); look at the server's log"
        return Fault("server", f"{where}: {reason}", cost)


def _schema(request: Chat) -> dict[str, Any]:
    if request.schema is None:
        return {}
    schema = {"name": "answer", "strict": True, "schema": json.loads(request.schema)}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def patience_s(timeout_s: float, retries: int) -> float:
    """How long one call may take, all its tries and the pauses between them together, in seconds."""
    return timeout_s * (retries + 1) + _LONGEST_PAUSE_S * retries


def require_address(base_url: str) -> None:
    """ConfigError for a base URL that is none, or holds what should stand nowhere."""
    refuse_in_address(base_url)
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"base_url {base_url!r} is no address; write it as http://127.0.0.1:8000/v1")


def require_package() -> None:
    """ConfigError where the `openai` package is not installed; it is not imported."""
    if find_spec("openai") is None:
        raise ConfigError("asking a server needs the openai package: pip install 'plainspoken[llm]'")


def open_client(base_url: str, key: str, timeout_s: float, retries: int) -> "AsyncOpenAI":
    """The package's client, which counts what it sends (`Sent`). Raises ConfigError as `require_address` does, and
    `require_package`."""
    require_address(base_url)
    require_package()
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    sends = DefaultAsyncHttpxClient(event_hooks={"request": [count]}, timeout=timeout_s)
    return AsyncOpenAI(api_key=key, base_url=base_url, timeout=timeout_s, max_retries=retries, http_client=sends)
