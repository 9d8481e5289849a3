r"""A table with a level on every line, and all of its levels read from one prompt.

A line is a label, a tab and the level. The levels that are asked for are left out, so that none rests on the one
before; what is read is the probability of each digit behind the tab. An empty cell costs no token: a line is its label
and two. Every part is encoded by itself and joined by us, so that the places are offsets that we know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from plainspoken.config import SimulateConfig
from plainspoken.errors import ConfigError
from plainspoken.llm.open import Llm
from plainspoken.llm.requests import AtPositions, NextToken, Request
from plainspoken.llm.tokens import Ids, LlmTokens
from plainspoken.simulators.asking import Question, too_long

Strategy = Literal["one pass", "fan-out"]
"""`one pass`: the prompt is read once and told of at every place; `fan-out`: its prefixes, as a list of prompts."""


@dataclass(frozen=True)
class Table:
    """How a table is written in a model's tokens: what stands before it, behind a label, and behind a line."""

    opening: Ids
    tab: Ids
    newline: Ids
    digits: Ids

    @classmethod
    def of(cls, tokens: LlmTokens, header: str) -> "Table":
        """A table under this header, as the assistant's words. Raises ConfigError without single tokens for digits."""
        begun = header if tokens.has_template else f" {header}"
        tab = tokens.encode("\t")
        return cls(tokens.encode(begun), tab, tokens.encode("\n"), tokens.digits(tab))

    def write(self, prefix: Ids, labels: Sequence[Ids]) -> tuple[Ids, Int[np.ndarray, " line"]]:
        """(the prompt up to the last tab, the position of the token behind which each line's level is read)."""
        parts = [prefix, self.opening]
        for label in labels:
            parts += [label, self.tab, self.newline]
        prompt = tuple(token for part in parts[:-1] for token in part)
        before = len(prefix) + len(self.opening)
        lengths = np.array([len(label) for label in labels], np.int64) + len(self.tab) + len(self.newline)
        return prompt, before + np.cumsum(lengths) - len(self.newline) - 1


def refuse_strategy(settings: SimulateConfig) -> None:
    """ConfigError for a strategy that the service cannot follow, whatever its model."""
    service = settings.llm.service
    if settings.strategy == "in-process" and service != "local":
        raise ConfigError(
            "simulate.strategy = in-process is for a model in this process (simulate.llm.service = local); "
            "for a server set auto, fan-out or echo"
        )
    if settings.strategy == "echo" and service == "llama":
        raise ConfigError(
            "simulate.strategy = echo wants the log-probabilities of a prompt's own tokens, which llama-server "
            "(simulate.llm.service = llama) does not tell; set auto or fan-out"
        )


def strategy_of(settings: SimulateConfig, llm: Llm, digits: Ids) -> Strategy:
    """How this model is asked for many places of a prompt, tried now.

    auto: one pass in process; on a server prefixes, which every server that tells next-token probabilities can do, and
    which find one another in its prefix cache. Raises ConfigError for `in-process` with a server, LlmError where the
    model is not able or not truthful.
    """
    refuse_strategy(settings)
    wanted, local = settings.strategy, settings.llm.service == "local"
    if wanted == "fan-out" or (wanted == "auto" and not local):
        llm.require("next-token", answers=digits)
        return "fan-out"
    llm.require("at-positions", answers=digits)
    return "one pass"


def level_request(strategy: Strategy, prompt: Ids, places: Sequence[int], digits: Ids) -> Request:
    """The request for the digits behind these places of the prompt; both strategies are answered the same."""
    if strategy == "fan-out":
        return NextToken(tuple(prompt[: place + 1] for place in places), digits)
    return AtPositions(prompt[: max(places) + 1], tuple(places), digits)


def level_questions(
    llm: Llm,
    table: Table,
    strategy: Strategy,
    prefix: Ids,
    labels: Sequence[Ids],
    lines: Int[np.ndarray, " n"],
    position: Int[np.ndarray, " n"],
    latent: Int[np.ndarray, " n"],
) -> list[Question]:
    """The question for the levels on some lines, ascending, of a table: each is that of a (position, latent) pair.

    What is behind the last of them is not sent. Lines beyond the model's context are a question of their own, a Fault.
    """
    prompt, places = table.write(prefix, labels[: lines[-1] + 1])
    return placed_questions(llm, strategy, prompt, places[lines], table.digits, position, latent)


def placed_questions(
    llm: Llm,
    strategy: Strategy,
    prompt: Ids,
    places: Int[np.ndarray, " n"],
    answers: Ids,
    position: Int[np.ndarray, " n"],
    latent: Int[np.ndarray, " n"],
) -> list[Question]:
    """The question for the answers behind places of a prompt, ascending; those beyond the context as one, a Fault."""
    fault = too_long(llm, len(prompt))
    fits = places + 1 < llm.context if fault else np.ones(len(places), bool)
    found = []
    if fits.any():
        request = level_request(strategy, prompt, places[fits].tolist(), answers)
        found.append(Question(position[fits], latent[fits], request))
    if fault and not fits.all():
        found.append(Question(position[~fits], latent[~fits], fault))
    return found
