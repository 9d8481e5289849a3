"""Whether a wire's answers are what was asked for: tried on a few tokens before anything is built on them.

Servers accept parameters that they ignore, shift prompt log-probabilities by a position, or key them by decoded text.
What a wire claims of many positions is held against single next-token calls, by token id; those against what any
next-token distribution obeys.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from plainspoken.errors import LlmError
from plainspoken.llm.requests import (
    Ability,
    Answer,
    AtPositions,
    Chat,
    Completion,
    Fault,
    Message,
    NextToken,
    Odds,
    Reply,
)
from plainspoken.llm.tokens import Ids, LlmTokens
from plainspoken.llm.whole import miscounted
from plainspoken.llm.wire import Wire

_TEXT = "The cat sat on the mat; then 3 dogs ate 12 red apples, and Lily laughed at all of them."
_BEGUN = "Once upon a time"
_TOKENS = 24  # of the text, enough for every context
_CLOSE = 0.05  # nats: what batching in bfloat16 changes; a row of another position is farther off
_FEW = 4  # tokens asked for in words
_ROOM = 64  # tokens for the answer that the schema leaves: 17 in a small vocabulary
_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["kept"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
)
_MENDS: Mapping[Ability, str] = {
    "next-token": "serve the model with vLLM, or in process (service = local), or use a simulator that reads words "
    "(structured)",
    "at-positions": "use a simulator that asks by prefixes (next-token), or serve the model in process "
    "(service = local)",
    "completion": "serve a model with /v1/completions that keeps max_tokens, or have an assistant asked "
    "(explain.ask = chat)",
    "chat": "serve the model with a chat template, or use what asks by completion",
    "schema": "serve the model with structured outputs (vLLM, SGLang, llama-server), or use a simulator that needs no "
    "schema",
}


@dataclass(frozen=True)
class Probe:
    """What was tried. `refused`: each ability that was claimed and not found truthful, and why; `failed`: those among
    them where the server failed, so that whether it is able is not known."""

    model: str
    truthful: frozenset[Ability]
    refused: Mapping[Ability, str]
    failed: frozenset[Ability] = frozenset()

    def require(self, *abilities: Ability) -> None:
        """Raises LlmError for an ability that was not found truthful, with the reason and the mend."""
        for ability in abilities:
            if ability not in self.truthful:
                reason = self.refused.get(ability, "it does not offer this, or it was not tried")
                # Where the server failed, the reason has the first thing to mend: a key, an address, the server itself.
                else_ = "where that is not the matter, " if ability in self.failed else ""
                raise LlmError(f"{self.model} cannot be asked for {ability}: {reason}; {else_}{_MENDS[ability]}")


async def probe(
    wire: Wire, tokens: LlmTokens, answers: Sequence[int] = (), wanted: Iterable[Ability] | None = None
) -> Probe:
    """Try every ability that is both claimed and wanted (None: all that are claimed).

    `answers`: the token ids that will be asked for, at least two; empty: the digits' as the tokenizer has them.
    Raises ConfigError where those are to be the digits and the tokenizer has none as single tokens.
    """
    claimed = wire.abilities if wanted is None else wire.abilities & frozenset(wanted)
    prompt, asked = (tokens.begin + tokens.encode(_TEXT))[:_TOKENS], tuple(answers)
    if not asked and claimed & {"next-token", "at-positions"}:
        asked = tokens.digits(prompt)
    tried = _Try(wire, tokens, prompt, asked)
    checks = {
        "next-token": tried.next_token,
        "at-positions": tried.at_positions,
        "completion": tried.completion,
        "chat": tried.chat,
        "schema": tried.schema,
    }
    refused, failed = dict[Ability, str](), set[Ability]()
    for ability, check in checks.items():
        if ability in claimed:
            try:
                await check()
            except _Lie as lie:
                refused[ability] = str(lie)
                if lie.fault is not None and lie.fault.kind == "server":
                    failed.add(ability)
    return Probe(wire.model, claimed - frozenset(refused), refused, frozenset(failed))


class _Lie(Exception):
    """What a wire did instead of what it was asked for, a Fault perhaps; caught in `probe`."""

    def __init__(self, what: str | Fault) -> None:
        self.fault = what if isinstance(what, Fault) else None
        super().__init__(f"{what.kind}: {what.reason}" if isinstance(what, Fault) else what)


@dataclass(frozen=True)
class _Try:
    wire: Wire
    tokens: LlmTokens
    prompt: Ids
    answers: Ids

    @property
    def positions(self) -> Ids:
        last = len(self.prompt) - 1
        return (last // 3, 2 * last // 3, last)

    async def next_token(self) -> None:
        prompts = tuple(self.prompt[: p + 1] for p in self.positions)
        alone = np.concatenate([await self._single(prompt) for prompt in prompts])
        if np.exp(alone).sum(1).max() > 1.001 or alone.max() > 1e-3:
            raise _Lie("what it tells are no log-probabilities: they sum to more than 1")
        if np.ptp(alone, 0).max() == 0:
            raise _Lie("it tells the same for every prompt: the prompt is ignored")
        await self._by_id(prompts[-1], alone[-1])
        await self._reads_the_beginning(prompts[-1], alone[-1])
        told = _odds(await self.wire.send(NextToken(prompts, self.answers)), len(prompts), sum(map(len, prompts)))
        if _close(told, alone):
            return
        if all(any(_close(row, other) for other in alone) for row in told):
            raise _Lie("of a list of prompts the answers come in another order, or one prompt's for all")
        raise _Lie("of a list of prompts it tells otherwise than of each alone")

    async def _by_id(self, prompt: Ids, told: Float64[np.ndarray, " answer"]) -> None:
        """The same ids asked for in another order, and two ids that decode to the same text."""
        turned = _odds(await self.wire.send(NextToken((prompt,), self.answers[::-1])), 1, len(prompt))
        if not _close(turned[0][::-1], told):
            raise _Lie("the log-probabilities are not those of the token ids asked for: of the likeliest, or by rank")
        alike = self._alike()
        if alike and np.ptp(_odds(await self.wire.send(NextToken((prompt,), alike)), 1, len(prompt))) == 0:
            raise _Lie(
                "log-probabilities are told by decoded text, which tokens share, not by token id "
                "(vLLM: return_tokens_as_token_ids)"
            )

    def _alike(self) -> Ids:
        """Two ids that hold part of a character each: both decode to U+FFFD. Empty where there are none."""
        pieces = self.tokens.pieces.table
        ids = (i for i, piece in enumerate(pieces) if piece and piece.decode("utf-8", "replace") == "\ufffd")
        pair = tuple(i for i, _ in zip(ids, range(2), strict=False))
        return pair if len(pair) == 2 else ()

    async def _reads_the_beginning(self, prompt: Ids, told: Float64[np.ndarray, " answer"]) -> None:
        start = len(self.tokens.begin)
        changed = (*prompt[:start], *reversed(prompt[start : start + 4]), *prompt[start + 4 :])
        if changed != prompt and np.array_equal((await self._single(changed))[0], told):
            raise _Lie("the beginning of the prompt changes nothing: it is dropped (raise the server's context)")

    async def at_positions(self) -> None:
        near = sorted({p + step for p in self.positions for step in (-1, 0, 1)} & set(range(len(self.prompt))))
        alone = {p: (await self._single(self.prompt[: p + 1]))[0] for p in near}
        request = AtPositions(self.prompt, self.positions, self.answers)
        told = _odds(await self.wire.send(request), len(self.positions), len(self.prompt))
        if all(_close(row, alone[p]) for p, row in zip(self.positions, told, strict=True)):
            return
        for step, way in ((-1, "back"), (1, "on")):
            pairs = [(row, alone[p + step]) for p, row in zip(self.positions, told, strict=True) if p + step in alone]
            if pairs and all(_close(*pair) for pair in pairs):
                raise _Lie(f"the log-probabilities at positions are shifted by one ({way})")
        if np.ptp(told, 0).max() == 0:
            raise _Lie("it tells the same at every position: positions are ignored")
        raise _Lie("at positions of one prompt it tells otherwise than after each prefix alone")

    async def completion(self) -> None:
        reply = _reply(await self.wire.send(Completion(_BEGUN, _FEW)))
        if reply.text.lstrip().startswith(_BEGUN):
            raise _Lie("a completion gives back its prompt")
        self._short(reply)

    async def chat(self) -> None:
        message = Message("user", _BEGUN)
        self._short(_reply(await self.wire.send(Chat((message,), _FEW))))

    async def schema(self) -> None:
        message = Message("user", "Name a cat.")
        reply = _reply(await self.wire.send(Chat((message,), _ROOM, schema=_SCHEMA)))
        try:
            kept = json.loads(reply.text) == {"answer": "kept"}
        except json.JSONDecodeError:
            kept = False
        if not kept:
            raise _Lie("its answer does not follow the JSON schema that was sent: the schema is ignored")

    def _short(self, reply: Reply) -> None:
        """Some servers end a character that they have begun, in up to three tokens more (llama-cpp-python).

        A token cut inside a character re-encodes to several: four times what was asked for is surely more.
        """
        if reply.usage.completion_tokens > _FEW + 3 or len(self.tokens.encode(reply.text)) > 4 * _FEW:
            raise _Lie(f"max_tokens is ignored: {_FEW} were asked for and more came")

    async def _single(self, prompt: Ids) -> Float64[np.ndarray, "1 answer"]:
        return _odds(await self.wire.send(NextToken((prompt,), self.answers)), 1, len(prompt))


def _odds(answer: Answer, rows: int, sent: int) -> Float64[np.ndarray, "row answer"]:
    """The log-probabilities of `rows` prompts or positions, `sent` prompt tokens having been sent."""
    if isinstance(answer, Fault):
        raise _Lie(answer)
    if not isinstance(answer, Odds):
        raise _Lie("it answers in words where log-probabilities were asked for: logprobs are ignored")
    logprob = np.asarray(answer.logprob, np.float64)
    if logprob.shape[0] != rows:
        raise _Lie(f"{logprob.shape[0]} rows of log-probabilities came where {rows} were asked for")
    if not np.isfinite(logprob).all():
        raise _Lie("a log-probability is missing or not finite: it was not told")
    if fault := miscounted(sent, answer.usage):
        raise _Lie(fault.reason)
    return logprob


def _reply(answer: Answer) -> Reply:
    if isinstance(answer, Fault):
        raise _Lie(answer)
    if not isinstance(answer, Reply):
        raise _Lie("it answers with log-probabilities where words were asked for")
    return answer


def _close(a: Float64[np.ndarray, "*shape"], b: Float64[np.ndarray, "*shape"]) -> bool:
    return bool(np.abs(a - b).max() <= _CLOSE)
