"""Many requests to one model, answered in order: kept answers first, the rest side by side within the limits."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace

from plainspoken.errors import LlmError
from plainspoken.llm.cache import AnswerCache
from plainspoken.llm.ledger import Ledger
from plainspoken.llm.limits import Limits
from plainspoken.llm.requests import NOTHING, Ability, Answer, Fault, Request, request_key
from plainspoken.llm.spent import Purse, Spent
from plainspoken.llm.wire import Wire

AHEAD = 4
"""Requests drawn ahead for each that may be in flight: a slow one does not keep the others waiting for its turn."""
GONE = 3
"""A server is gone after so many requests in a row for each that may be in flight that did not reach it."""

Note = Callable[[str, bytes, Answer], bool]
"""(label, key of the request or nothing, answer) to whether what it cost is still to be told: of what is paid, and of
what comes out of the response cache."""


def _nowhere(label: str, key: bytes, answer: Answer) -> bool:
    """What is paid is written down nowhere: whether it was paid before, the response cache tells alone."""
    return answer.usage.earlier


@dataclass
class _UnderWay:
    """A request that is being sent, and how many wait for its answer."""

    task: asyncio.Task[Answer]
    waiting: int = 0


@dataclass(frozen=True, eq=False)
class _Tried:
    """A wire that is tried out: no answer is kept, or taken from what is kept."""

    wire: Wire
    limits: Limits
    purse: Purse
    stage: str
    note: Note

    @property
    def model(self) -> str:
        return self.wire.model

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.wire.abilities

    async def send(self, request: Request) -> Answer:
        async with self.limits.turn():
            answer = await self.wire.send(request)
        self.purse.pay(self.stage, answer)
        self.note(self.stage, b"", answer)
        return answer

    async def close(self) -> None:
        """The wire is the asker's to close."""


class Asker:
    """Asks a wire through a response cache, within limits that other askers may share, and counts what it cost."""

    def __init__(self, wire: Wire, cache: AnswerCache | None = None, limits: Limits | None = None) -> None:
        self.wire = wire
        self._cache = cache
        self._limits = limits or Limits()
        self._owns_limits = limits is None
        self._under_way: dict[bytes, _UnderWay] = {}
        self._purse = Purse()
        self._note: Note = _nowhere
        self._unreached = 0  # requests in a row that did not reach the server; counted on the limits' loop alone

    def keep_in(self, ledger: Ledger, model: str) -> None:
        """Write down there what is paid from here on, to a model of this name; what stands there is not told again."""
        self._note = lambda stage, key, answer: ledger.note(stage, model, key, answer)

    def ask(self, requests: Iterable[Request], stage: str = "") -> Iterator[Answer]:
        """The answers in the requests' order; requests are drawn as they are needed, so that a million take no memory.

        Left early (Ctrl-C, an exception, the iterator closed), what is in flight is cancelled. `stage`: the label that
        the cost is counted under. Raises LlmError, after the answers before it, where the server is gone: every
        request would wait for all its retries, for nothing. Asked once more, it tries the server again.
        """
        ahead: deque[Future[Answer]] = deque()
        try:
            for request in requests:
                ahead.append(self._limits.start(self._answer(request, stage)))
                if len(ahead) >= AHEAD * self._limits.concurrency:
                    yield self._paid(stage, ahead.popleft().result())
            while ahead:
                yield self._paid(stage, ahead.popleft().result())
        except LlmError:
            self._unreached = 0
            raise
        finally:
            for future in ahead:
                future.cancel()

    def spent(self) -> dict[str, Spent]:
        """What each stage has cost by now."""
        return self._purse.spent()

    def trying(self, stage: str) -> Wire:
        """The wire past the cache, for who tries what it is able to: within the limits, and counted under `stage`."""
        return _Tried(self.wire, self._limits, self._purse, stage, self._note)

    def close(self) -> None:
        """Close the wire. Limits that were given, and the cache, are the giver's to close."""
        try:
            self._limits.start(self.wire.close()).result()
        finally:
            if self._owns_limits:
                self._limits.close()

    def _paid(self, stage: str, answer: Answer) -> Answer:
        self._purse.pay(stage, answer)
        return answer

    async def _answer(self, request: Request, stage: str) -> Answer:
        """Out of the cache, with one that asks the same right now, or over the wire."""
        key = request_key(request, self.wire.model)
        kept = self._cache.get(key) if self._cache is not None else None
        if kept is not None:
            return replace(kept, usage=replace(kept.usage, earlier=self._note(stage, key, kept)))
        sent = self._under_way.get(key)
        first = sent is None
        if sent is None:
            sent = self._under_way[key] = _UnderWay(asyncio.create_task(self._send(key, request, stage)))
        sent.waiting += 1
        try:
            answer = await asyncio.shield(sent.task)
        finally:
            sent.waiting -= 1
            if not sent.waiting:
                sent.task.cancel()  # nobody wants it any more; does nothing to one that is done
                if self._under_way.get(key) is sent:
                    del self._under_way[key]
        if first:
            return answer
        if isinstance(answer, Fault):
            return replace(answer, usage=NOTHING)  # what it cost counts with the one who sent it
        return replace(answer, usage=replace(answer.usage, from_cache=True))

    async def _send(self, key: bytes, request: Request, stage: str) -> Answer:
        async with self._limits.turn():
            if self._unreached >= GONE * self._limits.concurrency:
                raise self._gone()
            answer = await self.wire.send(request)
        lost = isinstance(answer, Fault) and answer.unreached
        self._unreached = self._unreached + 1 if lost else 0
        if self._cache is not None:
            self._cache.put(key, answer)
        self._note(stage, b"" if isinstance(answer, Fault) else key, answer)
        return answer

    def _gone(self) -> LlmError:
        kept = "" if self._cache is None else ": what was answered is kept"
        return LlmError(
            f"{self._unreached} requests in a row did not reach {self.wire.model}: "
            f"the server is gone; start it and run again{kept}"
        )
