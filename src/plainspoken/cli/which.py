"""Which run a command is about, where its words leave that open."""

import shlex
from pathlib import Path

import typer

from plainspoken.cli.show import show_error
from plainspoken.pipeline.stored import RUNS, run_folders


def run_folder(run: Path | None, example: str) -> Path:
    """The run folder that was named; else an error with the command that was most likely meant."""
    if run is not None:
        return run
    here = run_folders(RUNS)
    if here:
        mend = f"name one, e.g. plainspoken {example.format(shlex.quote(str(here[0])))}"
        others = f" (others here: {', '.join(map(str, here[1:]))})" if here[1:] else ""
        show_error(f"which run? {mend}{others}")
    else:
        show_error(
            "which run? There is none in runs/ yet: make one with plainspoken run, then "
            f"plainspoken {example.format('runs/pocket')}"
        )
    raise typer.Exit(2)
