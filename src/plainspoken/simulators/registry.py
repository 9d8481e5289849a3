"""What a simulator is, and those there are: a new one is one file and one line in `SIMULATORS`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from plainspoken.config.named import named
from plainspoken.errors import ConfigError
from plainspoken.simulators.all_at_once import open_all_at_once
from plainspoken.simulators.batched import open_batched
from plainspoken.simulators.last_token import open_last_token
from plainspoken.simulators.means import Simulate, SimulateMeans
from plainspoken.simulators.rules import follow_rules, simulate_text
from plainspoken.simulators.structured import open_structured
from plainspoken.simulators.token_level import open_token_level
from plainspoken.types import Simulation

Listen = Callable[[Int[np.ndarray, "1 t"], Bool[np.ndarray, "1 t"]], Simulation]
"""(tokens, mask) of a text so far, as one row, to levels over it; the mask is False where a token is no text (BOS)."""


@runtime_checkable
class Follow(Protocol):
    """The same for a text that grows: called with it again after every token, it says what `simulate` would."""

    def __call__(self, sentences: Mapping[int, str], latents: int, pieces: Sequence[bytes], /) -> Listen:
        """Sentences are read once, and must be such that `simulate` has not failed on them; `pieces` as in `Text`."""
        ...


@dataclass(frozen=True, eq=False)
class Simulator:
    """A way to read sentences back. It sees sentences and text, and nothing else: the sentence is the only channel.

    `opens`: gives what simulates, once for many sites and parts; where a language model lacks what is needed, it
    raises LlmError or ConfigError here, before anything is asked. `follow`: None where it cannot follow a text that is
    being written. `needs_llm`: whether it asks the language model that `simulate.llm` names. `reads`: the settings
    below `simulate` that it reads and others need not: those change nothing of a run with another simulator.
    """

    opens: Callable[[SimulateMeans], Simulate]
    follow: Follow | None = None
    needs_llm: bool = False
    reads: tuple[str, ...] = ()


SIMULATORS: dict[str, Simulator] = {
    "rules": Simulator(lambda means: simulate_text, follow_rules),
    "last-token": Simulator(open_last_token, needs_llm=True, reads=("least_mass",)),
    "all-at-once": Simulator(open_all_at_once, needs_llm=True, reads=("least_mass", "strategy")),
    "batched": Simulator(open_batched, needs_llm=True, reads=("least_mass", "strategy", "batch")),
    "structured": Simulator(open_structured, needs_llm=True, reads=("batch", "schema")),
    "token-level": Simulator(open_token_level, needs_llm=True, reads=("strategy",)),
}


def settings_unread(name: str) -> tuple[str, ...]:
    """The settings below `simulate` that only other simulators read."""
    every = {setting for simulator in SIMULATORS.values() for setting in simulator.reads}
    return tuple(sorted(every - set(simulator_named(name).reads)))


def simulator_named(name: str) -> Simulator:
    """The simulator that `simulate.simulator` names. Raises ConfigError that lists those there are."""
    return named(SIMULATORS, name, "simulate.simulator")


def require_follows(name: str) -> Follow:
    """What follows a text that is being written, by the simulator of this name. Raises ConfigError where it cannot."""
    follow = simulator_named(name).follow
    if follow is None:
        able = ", ".join(sorted(other for other, entry in SIMULATORS.items() if entry.follow is not None))
        raise ConfigError(
            f"simulate.simulator={name} cannot follow a text that is being written, so that this run cannot write "
            f"rewritten text; those that can: {able}; make a run with one of them, or write with the model as it is "
            "(generate --original)"
        )
    return follow
