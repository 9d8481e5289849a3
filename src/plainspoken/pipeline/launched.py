"""Whether torchrun started this process beside others; known without torch."""

import os

from plainspoken.errors import UsageError


def rank() -> int:
    """Which of the processes that torchrun started this is; 0 without torchrun."""
    return int(os.environ.get("RANK", "0")) if world() > 1 else 0


def world() -> int:
    """How many processes torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def require_alone(verb: str) -> None:
    """UsageError where torchrun started other processes beside this one: they would be in each other's way."""
    if world() > 1:
        raise UsageError(f"{verb} runs in one process, and torchrun started {world()}; start it without torchrun")
