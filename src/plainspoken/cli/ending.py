"""How a verb ends that cannot go on: a message and an exit code."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from plainspoken.cli.show import show_error
from plainspoken.errors import PlainspokenError
from plainspoken.pipeline.stored import is_run_folder


@contextmanager
def reporting_errors(out: Path | None, verb: str = "run") -> Iterator[None]:
    """Errors of ours become a message and an exit code; Ctrl-C says how to go on, with the verb that goes on there."""
    try:
        yield
    except PlainspokenError as error:
        show_error(str(error))
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        known = out is not None and is_run_folder(out)
        again = f"plainspoken {verb} {shlex.quote(str(out))}" if known else "the same command"
        show_error(f"interrupted; what is done is kept. Go on with: {again}")
        raise typer.Exit(130) from error
