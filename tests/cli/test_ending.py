"""How a verb ends that was interrupted: with the command that goes on."""

from pathlib import Path

import pytest
import typer

from plainspoken.cli.ending import reporting_errors
from plainspoken.store import write_json


@pytest.mark.parametrize(
    ("folder", "verb", "command"),
    [
        ("run", "run", "plainspoken run {}"),
        ("run", "compare-coders", "plainspoken compare-coders {}"),
        ("absent", "run", "the same command"),
        ("run", "connections", "the same command"),
    ],
)
def test_an_interruption_names_the_command_that_goes_on(
    folder: str, verb: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "run" / "config.json", {})
    with pytest.raises(typer.Exit) as ended, reporting_errors(tmp_path / folder, verb):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err.endswith(f"Go on with: {command.format(tmp_path / folder)}\n")
