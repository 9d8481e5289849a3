"""What a piece of work costs the process that does it. Linux; needs nothing installed, to measure peers with too."""

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path


def measured(work: Callable[[], object], first: Callable[[], object]) -> dict[str, float]:
    """CPU seconds of the work in all the process's threads, and the peak of resident memory above the start.

    `first` is done before the clock starts, but not before the memory is looked at: a small piece of the same work, so
    that no library is made ready at the work's cost. Megabytes are 10^6 bytes; mapped files' pages count if present.
    """
    gc.collect()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    first()
    began = time.process_time()
    work()
    return {"seconds": time.process_time() - began, "peak_mb": _resident("VmHWM") - before}


def _resident(name: str) -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024 / 1e6


def tell(**facts: object) -> None:
    """Ends a measured process's output with what it found, for `rounds.run`."""
    print(json.dumps(facts), flush=True)
