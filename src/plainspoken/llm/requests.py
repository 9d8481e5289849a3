"""What can be asked of a language model, and what it can answer: values, the same over HTTP and in process."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

Role = Literal["system", "user", "assistant"]
FaultKind = Literal[
    "parse", "server", "refused", "beyond context", "cut prompt", "cut answer", "too many words",
    "missing probability mass",
]  # fmt: skip
"""What kept a question from being answered; docs/llm.md says of each what it means and how it is mended.

Manifests of before the four kinds about length say "too long" of any of them.
"""
Finish = Literal["stop", "length", "refused"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Chat:
    """An answer in words to a conversation, of at most `max_tokens` tokens.

    `schema`: a JSON schema (as text) that the answer has to follow; only for a wire that is able to "schema".
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    schema: str | None = None


@dataclass(frozen=True)
class Completion:
    """The prompt gone on with, by at most `max_tokens` tokens or up to one of the texts `stop`."""

    prompt: str
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class NextToken:
    """How likely each of `answers` (token ids) is as the next token after each of the prompts (token ids)."""

    prompts: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]


@dataclass(frozen=True)
class AtPositions:
    """How likely each of `answers` is as the token after prompt[: p + 1], for every p of `positions`.

    The same as `NextToken` with these prefixes, from one pass over the prompt. A position outside the prompt is an
    error of whoever counted it: AssertionError.
    """

    prompt: tuple[int, ...]
    positions: tuple[int, ...]
    answers: tuple[int, ...]

    def __post_init__(self) -> None:
        outside = [p for p in self.positions if not 0 <= p < len(self.prompt)]
        assert not outside, f"positions {outside} lie outside a prompt of {len(self.prompt)} tokens: they are offsets"


Request = Chat | Completion | NextToken | AtPositions
Ability = Literal["chat", "schema", "completion", "next-token", "at-positions"]
"""What a wire can be asked: `schema` is a `Chat` with a schema, the others are the requests by their names."""


@dataclass(frozen=True)
class Usage:
    """What an answer cost, as the server counted it: `cached_tokens` of `prompt_tokens` came from its prefix cache.

    `seconds`: from sending to answer; `requests`: calls over the wire, those that failed and were made again included.
    An answer out of our own response cache cost nothing now: its usage is what it cost when it was asked for, and
    `from_cache` is True; so is `earlier` where it stands in no bill yet: of the run that has a ledger, else of all
    that this process has paid for or met. `untold`: the server did not tell its tokens, or not all, which then count 0;
    `cached_untold`: nor how many of them were cached, or not of all prompts, so that `cached_tokens` are so many at
    least.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    requests: int = 1
    from_cache: bool = False
    earlier: bool = False
    untold: bool = False
    cached_untold: bool = False


NOTHING = Usage(requests=0)
"""The cost of what was never sent."""


def is_count(told: object) -> bool:
    """Whether a server, or a file, told a number of tokens: a whole one, neither below 0 nor beyond any prompt."""
    return isinstance(told, int) and not isinstance(told, bool) and 0 <= told < 2**31


@dataclass(frozen=True)
class Reply:
    """Words. `finish`: why they end; "length" where `max_tokens` cut them off."""

    text: str
    finish: Finish
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, eq=False)
class Odds:
    """Natural log-probabilities over the whole vocabulary's softmax, one row a prompt or position, as they were asked.

    Every one of them was told by the model: what a server leaves out makes the answer a Fault.
    """

    logprob: Float[np.ndarray, "prompt answer"]
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Fault:
    """What was asked and not answered, and why. Returned, never raised, and never replaced by a plausible answer.

    `usage`: what it cost all the same: every try over the wire, and the tokens where a server told them.
    `unreached`: there was no server, or it broke off: one that is slow, or that answers with an error, is there.
    """

    kind: FaultKind
    reason: str
    usage: Usage = NOTHING
    unreached: bool = False


Answer = Reply | Odds | Fault


def request_key(request: Request, model: str) -> bytes:
    """SHA-256 over the model and all of the request: the name of its answer in the response cache."""
    # vars, not asdict: asdict copies every token id in Python, milliseconds for a long list of prompts.
    what = {"model": model, "request": type(request).__name__, **vars(request)}
    return hashlib.sha256(json.dumps(what, default=vars, sort_keys=True, ensure_ascii=True).encode()).digest()
