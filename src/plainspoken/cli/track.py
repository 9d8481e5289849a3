"""How long work is shown where there is no terminal to draw on: a line now and then."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from plainspoken.pipeline.progress import Advance, Progress

EVERY = 10.0
"""Seconds between lines."""


@dataclass
class _Task:
    label: str
    total: int | None
    began: float
    done: int = 0

    def line(self, now: float) -> str:
        minutes, seconds = divmod(int(now - self.began), 60)
        share = f"{min(self.done / self.total, 1.0):.0%}, " if self.total else f"{self.done:,} done, " * bool(self.done)
        return f"{self.label}: {share}{minutes}:{seconds:02d}"


@contextmanager
def progress_in_lines(
    say: Callable[[str], object], warn: Callable[[str], object], every: float = EVERY
) -> Iterator[Progress]:
    """A Progress that says, every so many seconds while long work goes on, what it is and how much of it is done.

    `TASK: 42 %, 1:10`: the share done, or the number where the whole is not known, and minutes and seconds since the
    task began.
    """
    tasks: list[_Task] = []
    ended = threading.Event()

    @contextmanager
    def track(label: str, total: int | None) -> Iterator[Advance]:
        task = _Task(label, total, time.monotonic())

        def advance(done: int) -> None:
            task.done += done

        tasks.append(task)
        try:
            yield advance
        finally:
            tasks.remove(task)

    def tell() -> None:
        while not ended.wait(every):
            for task in tasks[-1:]:
                say(task.line(time.monotonic()))

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield Progress(say=say, warn=warn, track=track)
    finally:
        ended.set()
        teller.join()
