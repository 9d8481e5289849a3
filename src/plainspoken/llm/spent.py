"""What asking cost, stage by stage, as the servers counted it."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from plainspoken.llm.requests import Answer, Fault


@dataclass(frozen=True)
class Spent:
    """Sums over the answers of one stage.

    `asked`: answers given, of whatever origin; `requests`: calls over the wire, retries and failures included; tokens
    and seconds (summed over calls that ran side by side) are theirs; `faults`: how many of each kind. A request that
    came out of the response cache counts in `from_cache`. What an attempt before this one (a killed one, say, or
    another run) had paid for is in `earlier_…`, each answer once: what came out of the response cache, and of a killed
    attempt also what is not asked again, faults and probes (`ledger`). `untold`: answers whose tokens the server did
    not tell: sums of tokens are lower bounds; `cached_untold`: of which it did not tell all that its prefix cache had:
    what was computed is an upper bound.
    """

    asked: int = 0
    from_cache: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    faults: Mapping[str, int] = field(default_factory=dict)
    earlier_requests: int = 0
    earlier_prompt_tokens: int = 0
    earlier_cached_tokens: int = 0
    earlier_completion_tokens: int = 0
    earlier_seconds: float = 0.0
    untold: int = 0
    cached_untold: int = 0

    def plus(self, answer: Answer) -> "Spent":
        """With this answer's cost."""
        return self + _of(answer)

    def __add__(self, other: "Spent") -> "Spent":
        return self._with(other, 1)

    def __sub__(self, other: "Spent") -> "Spent":
        return self._with(other, -1)

    def _with(self, other: "Spent", sign: int) -> "Spent":
        sums = {name: value + sign * getattr(other, name) for name, value in vars(self).items() if name != "faults"}
        kinds = sorted({*self.faults, *other.faults})
        faults = {kind: self.faults.get(kind, 0) + sign * other.faults.get(kind, 0) for kind in kinds}
        return Spent(**sums, faults={kind: count for kind, count in faults.items() if count})


def _of(answer: Answer) -> Spent:
    """What one answer costs."""
    usage = answer.usage
    if usage.from_cache and not usage.earlier:
        return Spent(1, 1)
    if usage.from_cache:
        return Spent(1, 1) + carried(answer)
    return Spent(
        1,
        0,
        usage.requests,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        usage.seconds,
        {answer.kind: 1} if isinstance(answer, Fault) else {},
        untold=int(usage.untold),
        cached_untold=int(usage.cached_untold),
    )


def carried(answer: Answer) -> Spent:
    """What an answer has cost, as paid earlier."""
    usage = answer.usage
    return Spent(
        earlier_requests=usage.requests,
        earlier_prompt_tokens=usage.prompt_tokens,
        earlier_cached_tokens=usage.cached_tokens,
        earlier_completion_tokens=usage.completion_tokens,
        earlier_seconds=usage.seconds,
        untold=int(usage.untold),
    )


def probing(stage: str) -> str:
    """The label that trying a model out costs under, for a stage that is going to ask it."""
    return f"{stage} (probe)"


class Purse:
    """Spent by stage, counted from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Spent] = {}

    def pay(self, stage: str, answer: Answer) -> None:
        """Count the answer under the stage."""
        with self._lock:
            self._stages[stage] = self._stages.get(stage, Spent()).plus(answer)

    def spent(self) -> dict[str, Spent]:
        """What each stage has cost by now."""
        with self._lock:
            return dict(self._stages)
