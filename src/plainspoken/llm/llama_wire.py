"""A language model behind llama.cpp's own server: words by OpenAI's protocol, log-probabilities by its `/completion`.

Its OpenAI endpoint ignores `logprob_token_ids` and `echo`, and tells the likeliest tokens only. Its own endpoint tells
the log-probability of the token that it draws, and after sampling the probabilities of whatever a bias has lifted to
the top: together these are the log-probabilities of any answers, by id, without the rest of the vocabulary.
"""

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np

from plainspoken.llm.fit import misfit
from plainspoken.llm.key import Key
from plainspoken.llm.openai_answers import BadAnswer, odds_of
from plainspoken.llm.openai_faults import fault_of
from plainspoken.llm.openai_wire import NO_KEY, OpenAiWire, open_client, patience_s
from plainspoken.llm.requests import Ability, Answer, AtPositions, Fault, NextToken, Odds, Request, Usage, is_count
from plainspoken.llm.tokens import LlmTokens
from plainspoken.llm.tries import Sent
from plainspoken.llm.whole import miscounted

LIFT = 100.0
"""Added to the answers' logits: above every other token's, and still exact to 1e-5 nats in float32."""
FIELDS = ("index", "completion_probabilities", "tokens_evaluated", "tokens_predicted", "timings/prompt_n")
"""What is read of an answer; without this list the server sends the prompt and all its settings back, too."""
_COUNTS = ("tokens_evaluated", "tokens_predicted", "timings/prompt_n")


class LlamaWire:
    """llama-server at `base_url`, with or without `/v1`; `OpenAiWire` says what the other settings are.

    A list of prompts costs two calls, the second out of the server's prefix cache, both with the answers lifted by
    `LIFT`. The first tells p(a) / Σ p(answers) of every answer a, after sampling; the second draws the likeliest
    answer b and tells log p(b) over the whole vocabulary, before the lift. So log p(a) = log p(b) + log(share of a) -
    log(share of b). What is not told is a Fault: an answer that is unlikely even when lifted, or one that ends inside
    a character where it is drawn.
    """

    abilities: frozenset[Ability] = frozenset({"chat", "schema", "completion", "next-token"})

    def __init__(
        self, model: str, base_url: str, key_variable: str = "", timeout_s: float = 60.0, retries: int = 4,
        tokens: LlmTokens | None = None, context: int = 0,
    ) -> None:  # fmt: skip
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self._words = OpenAiWire(
            model, f"{self._root}/v1", key_variable, timeout_s, retries, tokens=tokens, context=context
        )
        self._key, self._timeout_s, self._context = Key.of(key_variable), timeout_s, context
        self._tokens, self.patience_s = tokens, 2 * patience_s(timeout_s, retries)
        self._client = open_client(self._root, self._key.value or NO_KEY, timeout_s, retries)

    @property
    def model(self) -> str:
        """The model's name at the server, with the server's address."""
        return self._words.model

    async def send(self, request: Request) -> Answer:
        """One call for words, two for log-probabilities, retries included; a Fault for whatever goes wrong."""
        from openai import OpenAIError

        if isinstance(request, AtPositions):
            return Fault("server", f"{self._root} tells nothing of a prompt's own tokens; ask by prefixes (next-token)")
        if not isinstance(request, NextToken):
            return await self._words.send(request)
        if fault := misfit(request, self._tokens, self._context, drawn=1):
            return fault
        begun, count, sent = time.perf_counter(), len(set(request.answers)), Sent.counted()
        try:
            async with asyncio.timeout(self.patience_s):
                shares = await self._post(request, samplers=[], n_probs=count, post_sampling_probs=True)
                drawn = await self._post(request, -1, samplers=["top_k"], top_k=1, n_probs=1)
            answer = _read(request, shares, drawn, Usage(requests=sent.tries, seconds=time.perf_counter() - begun))
            if not isinstance(answer, Fault):
                return answer
            fault = answer
        except OpenAIError as error:
            fault = fault_of(error, self._root, self._key, self._timeout_s, time.perf_counter() - begun)
            # The call before this one was paid for, too, and its tokens are not told.
            usage = replace(fault.usage, requests=sent.tries, untold=fault.usage.untold or sent.before > 0)
            return replace(fault, usage=usage)
        except TimeoutError:
            fault = Fault("server", f"did not end its answers in {self.patience_s:g} s; raise timeout_s")
        except BadAnswer as error:
            fault = Fault(error.kind, str(error))
        except (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
            fault = Fault("server", f"the body is not llama-server's ({error!r}); is it one?")
        usage = Usage(requests=sent.tries, seconds=time.perf_counter() - begun, untold=sent.tries > 0)
        return Fault(fault.kind, self._key.hide(f"{self._root}/completion: {fault.reason}"), usage)

    async def close(self) -> None:
        """Close the connections."""
        await self._words.close()
        await self._client.close()

    async def _post(self, request: NextToken, step: int = 1, **sampling: Any) -> list[dict[str, Any]]:
        """One answer a prompt, in their order; with step -1 the server reads the last first: a prefix of it is kept."""
        from httpx2 import Response

        body = {
            "prompt": [list(prompt) for prompt in request.prompts][::step],
            "n_predict": 1,
            "seed": 0,
            "logit_bias": [[answer, LIFT] for answer in sorted(set(request.answers))],
            "response_fields": FIELDS,
        }
        response = await self._client.post("/completion", cast_to=Response, body=body | sampling)
        told = response.json()
        rows = sorted(told if isinstance(told, list) else [told], key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(len(request.prompts))):
            raise BadAnswer("server", f"{len(rows)} answers for {len(request.prompts)} prompts; look at its log")
        return rows[::step]


def _read(request: NextToken, shares: list[dict[str, Any]], drawn: list[dict[str, Any]], cost: Usage) -> Odds | Fault:
    """`cost`: tries and seconds of both calls."""
    for prompt, *told in zip(request.prompts, shares, drawn, strict=True):
        for row in told:
            if not all(is_count(row[name]) for name in _COUNTS):
                raise BadAnswer("server", "its counts of tokens are no numbers of tokens; is it llama-server?")
            if fault := miscounted(len(prompt), replace(cost, prompt_tokens=row["tokens_evaluated"])):
                return fault
    rows = [_row(request.answers, *pair, f"prompt {at}") for at, pair in enumerate(zip(shares, drawn, strict=True))]
    read = sum(row["tokens_evaluated"] for row in shares)
    computed = sum(row["timings/prompt_n"] for row in shares + drawn)
    completed = sum(row["tokens_predicted"] for row in shares + drawn)
    cached = max(0, read - computed)  # what neither call computed
    usage = replace(cost, prompt_tokens=read, cached_tokens=cached, completion_tokens=completed)
    return odds_of(rows, request.answers, usage)


def _row(answers: tuple[int, ...], shares: dict[str, Any], drawn: dict[str, Any], where: str) -> list[float]:
    told, likeliest = (each.get("completion_probabilities") for each in (shares, drawn))
    if not told or not likeliest:
        reason = f"nothing was told at {where}: an answer was drawn that ends inside a character"
        raise BadAnswer("missing probability mass", reason)
    share = {each["id"]: float(each["prob"]) for each in told[0]["top_probs"] if each["prob"] > 0}
    token, logprob = likeliest[0]["id"], likeliest[0]["logprob"]
    missing = len({*answers} - share.keys())
    reason = f"{missing} of {len(answers)} answers were not told at {where}: less likely by {LIFT:g} nats?"
    if not missing and (token not in answers or not -1e30 < logprob <= 1e-3):  # log 0 is written as the least float
        reason, missing = f"none of the answers is likely at {where}: only their shares were told", len(answers)
    if missing:
        raise BadAnswer("missing probability mass", reason)
    return [float(logprob - np.log(share[token]) + np.log(share[answer])) for answer in answers]
