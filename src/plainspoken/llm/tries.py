"""How often a call has been sent, known while it is still under way as well: one that is given up was paid for, too."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx2 import Request


@dataclass
class Sent:
    """What is sent from now on within this task: the tries of the calls before the last, and of the last so far."""

    before: int = 0
    last: int = 0

    @staticmethod
    def counted() -> "Sent":
        """A count of its own, which `count` keeps."""
        sent = Sent()
        _SENT.set(sent)
        return sent

    @property
    def tries(self) -> int:
        """All of them."""
        return self.before + self.last


_SENT: ContextVar[Sent] = ContextVar("sent")  # of a task: a client is everybody's, and tells a request, not whose it is


async def count(request: "Request") -> None:
    """For an HTTP client to call with each request that it is about to send."""
    sent, now = _SENT.get(None), tries(request)
    if sent is not None:
        if now == 1:
            sent.before += sent.last
        sent.last = now


def tries(request: "Request") -> int:
    """How often a request has been sent, by the count that the `openai` package puts in its header."""
    return 1 + int(request.headers.get("x-stainless-retry-count", 0))
