"""The command line as a shell sees it: exit codes of what went wrong, help with examples, output as it is."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import zygote
from plainspoken.cli.app import app
from plainspoken.cli.show import progress_on_terminal
from plainspoken.cli.track import progress_in_lines
from plainspoken.config import settings_help
from plainspoken.pipeline import STAGES
from plainspoken.pipeline.score_table import COLUMNS

STAGES_SHOWN = [f"{stage.name} {stage.does.split()[0].capitalize()} " for stage in STAGES]
VERBS = sorted(typer.main.get_group(app).commands)


def call(*words: object) -> Result:
    """One command; whatever is raised that is no exit of ours fails the test."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(result: Result) -> str:
    """All that was printed, however it was wrapped."""
    return " ".join(result.output.split())


@pytest.fixture
def ask(neox_folder: Path, story: str, tmp_path: Path) -> list[str]:
    """Options for a tiny model and corpus; the run folder is the last word."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for i in range(12):
        (texts / f"{i}.txt").write_text(f"Story {i}.\n{story}")
    given = {"lm": neox_folder, "corpus": texts, "site": "gpt_neox.layers.0.mlp", "device": "cpu"}
    return [word for name, value in [*given.items(), ("out", tmp_path / "run")] for word in (f"--{name}", str(value))]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--set", "explain.explainer=nobody"], "explain.explainer is 'nobody'; there are: rules"),
        (["--set", "coder.kind=transcoder", "--site", "gpt_neox.layers.0"], "use coder.kind=sae"),
        (["--force", "nope"], "there is no such stage"),
        (["--out", __file__], "a file stands there"),
    ],
)
def test_a_wrong_request_exits_with_2_and_says_what_is_meant(ask: list[str], wrong: list[str], message: str) -> None:
    result = call("run", *ask, *wrong)
    assert result.exit_code == 2
    assert message in told(result)


def test_a_name_that_was_wrong_does_not_stand_in_the_way_of_the_right_one(ask: list[str]) -> None:
    assert call("corpus", *ask, "--set", "calibrate.calibrator=nobody").exit_code == 2
    assert call("corpus", *ask).exit_code == 0


def test_work_that_fails_exits_with_1_and_names_the_file_and_the_mend(ask: list[str]) -> None:
    assert call("corpus", *ask).exit_code == 0
    run = Path(ask[-1])
    harmed = next((run / "corpus").glob("*.safetensors"))
    harmed.write_bytes(harmed.read_bytes()[:-1])
    result = call("corpus", run)
    assert result.exit_code == 1
    assert f"{harmed.name} is truncated" in told(result)
    assert "--force corpus" in told(result)


def test_what_the_model_writes_is_printed_as_it_is(ask: list[str]) -> None:
    assert call("corpus", *ask, "--quiet").exit_code == 0
    prompt = ":heart:\t[bold]x[/bold]  y"
    result = call("generate", ask[-1], "--original", "--quiet", "--tokens", 1, "--prompt", prompt)
    assert result.exit_code == 0
    assert result.stdout.startswith(prompt)


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["run", "--set", "coder.latent=8"], 2)])
def test_the_shell_sees_the_exit_code(words: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, "-m", "plainspoken", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_what_is_missing_is_answered_with_the_nearest_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("generate")
    assert result.exit_code == 2
    assert "make one with plainspoken run, then plainspoken generate runs/pocket" in told(result)
    for name in ("mine", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    assert "plainspoken score runs/mine (others here: runs/other)" in told(call("score"))
    done = zygote.run(zygote.PLAINSPOKEN, "runs/mine", capture_output=True)
    assert (done.returncode, "plainspoken run runs/mine" in done.stderr) == (2, True)


def test_help_gives_the_order_of_verbs_and_the_meaning_of_columns() -> None:
    shown = told(call("--help"))
    order = ["plainspoken run", "plainspoken generate", "plainspoken score", "explanations.jsonl", *STAGES_SHOWN]
    places = [shown.index(word) for word in order]
    assert places == sorted(places)
    shown = told(call("score", "--help"))
    for column in COLUMNS[:-1]:
        assert column == "latent" or f"{column} " in shown
    assert "a share of the calibrate documents" in shown


def test_where_there_is_no_terminal_long_work_is_told_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with progress_in_lines(said.append, said.append, every=0.02) as progress:
        with progress.track("whole", 8) as whole, progress.track("part", None) as part:
            whole(2)
            part(3)
            wait_for(lambda: any(line.startswith("part: 3 done, 0:0") for line in said))
        with progress.track("whole", 8) as whole:
            whole(2)
            wait_for(lambda: any(line.startswith("whole: 25%, 0:0") for line in said))
        count = len(said)
    assert count < 50
    with progress_on_terminal(quiet=False) as progress:
        progress.say("[news]")
    assert capsys.readouterr().err == "· [news]\n"


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example(verb: str) -> None:
    result = call(verb, "--help")
    assert result.exit_code == 0
    assert f"plainspoken {verb}" in told(result)  # the usage line says `root` here, so this is the example


def test_settings_lists_every_field_with_its_help() -> None:
    shown = told(call("settings"))
    for setting in settings_help():
        assert f"{setting.name} = " in shown
        assert setting.help in shown
