"""How a verb ends that cannot go on: a message and an exit code."""

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from plainspoken.cli.show import show_error
from plainspoken.errors import PlainspokenError
from plainspoken.pipeline import launched
from plainspoken.pipeline.stored import is_run_folder


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what a cluster's scheduler sends before it kills."""


def _terminate(signum: int, frame: object) -> None:
    raise _Terminated


def stop_on_sigterm() -> None:
    """From now on SIGTERM ends a verb as Ctrl-C does. Not where torchrun started processes: it ends all of them."""
    if launched.world() == 1:
        signal.signal(signal.SIGTERM, _terminate)


_ASKED = ("trace", "intervene", "connections", "behaviour")
"""Verbs that are asked something of a run: its folder alone would be another question."""


@contextmanager
def reporting_errors(out: Path | None, verb: str = "run") -> Iterator[None]:
    """Errors of ours become a message and an exit code; Ctrl-C and SIGTERM say how to go on, and with what verb."""
    try:
        yield
    except PlainspokenError as error:
        show_error(str(error))
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        known = out is not None and is_run_folder(out)
        again = f"plainspoken {verb} {shlex.quote(str(out))}" if known and verb not in _ASKED else "the same command"
        show_error(f"interrupted; what is done is kept. Go on with: {again}")
        raise typer.Exit(128 + (signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT)) from error
