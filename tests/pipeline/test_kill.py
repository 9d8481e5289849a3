"""A run killed at any moment, and started again, gives what an undisturbed run gives."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zygote
from plainspoken.config import Config, config_tree
from plainspoken.pipeline import STAGES
from plainspoken.pipeline.provenance import command_for

SITE = "gpt_neox.layers.0.mlp"
RESULTS = (
    "evaluate/results.json",
    f"train/{SITE}/coder.safetensors",
    f"train/{SITE}/log.jsonl",
    f"explain/{SITE}/explanations.jsonl",
    f"calibrate/{SITE}/calibration.safetensors",
)
NAMES = [stage.name for stage in STAGES if stage.name != "score"]  # nothing is asked for there
Runs = Callable[..., dict[str, Any]]


def start(config: Config, folder: Path) -> zygote.Forked:
    """The command line at work on these settings, on one thread."""
    arguments = command_for(config, folder).split()[1:]
    return zygote.start(zygote.PLAINSPOKEN, *arguments, "--quiet", stderr=subprocess.PIPE)


def wait_until_begun(run: zygote.Forked, folder: Path) -> None:
    """Until the run has something to lose: its first file."""
    while not (folder / "config.json").exists() and run.poll() is None:
        time.sleep(0.02)


def require_same(killed: Path, whole: Path) -> None:
    """Nothing that a kill left lies about, and the results are the same bytes."""
    for name in RESULTS:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(killed.rglob("*.part"))
    assert not list(killed.rglob("started.json"))


@pytest.fixture(scope="module")
def runs(tiny: Config) -> Iterator[Runs]:
    """`runs(folder, stage, at)`: a run that is killed at a moment of a stage, as `killable.py` has it."""
    program = Path(__file__).with_name("killable.py").read_text()
    process = zygote.start(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tasks, answers = process.stdin, process.stdout
    assert tasks is not None and answers is not None

    def run(folder: Path, stage: str = "", at: int | str | None = None) -> dict[str, Any]:
        settings = config_tree(tiny)
        settings["report"]["frontier"] = [12]  # so that its stage has something to do
        task = {"config": settings, "folder": str(folder), "stage": stage, "at": at}
        print(json.dumps(task), file=tasks, flush=True)
        return json.loads(answers.readline())

    yield run
    tasks.close()
    process.wait()


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """An undisturbed run, and how many moments each stage has."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    told = runs(folder)
    assert told["status"] == 0
    return folder, told["moments"]


@pytest.mark.slow
def test_kill_9_in_the_midst_of_each_stage_and_resume_gives_the_same_results(
    runs: Runs, whole: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    """Three times: as it begins, in the middle of what it writes, and with all but its manifest written."""
    undisturbed, moments = whole
    folder = tmp_path / "run"
    for stage in NAMES:
        for at in (2, max(3, moments[stage] // 2), "manifest"):
            assert runs(folder, stage, at)["status"] == signal.SIGKILL, stage
            assert list((folder / stage).rglob("*")), stage
            assert not list(folder.glob(f"{stage}/**/manifest.json")), stage
            assert not list(folder.glob(f"{NAMES[-1]}/manifest.json")), stage
    assert runs(folder)["status"] == 0
    require_same(folder, undisturbed)
    assert {p.relative_to(folder) for p in folder.rglob("*")} == {
        p.relative_to(undisturbed) for p in undisturbed.rglob("*")
    }


@pytest.mark.slow
def test_kill_9_at_random_moments_and_resume_gives_the_same_results(
    tiny: Config, whole: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    draw, kills, killed = random.Random(1), 0, tmp_path / "killed"
    while kills < 3:
        run = start(tiny, killed)
        wait_until_begun(run, killed)
        time.sleep(draw.uniform(0, 2))  # of a fork that has imported, which takes no longer
        if run.poll() is not None:
            break
        run.send_signal(signal.SIGKILL)
        run.wait()
        kills += 1
    last = start(tiny, killed)
    assert last.wait() == 0, last.stderr.read() if last.stderr else ""
    assert kills > 0
    require_same(killed, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_scheduler_are_told_how_to_go_on(tiny: Config, tmp_path: Path, sent: signal.Signals) -> None:
    run = start(tiny, tmp_path / "run")
    wait_until_begun(run, tmp_path / "run")
    run.send_signal(sent)
    _, told = run.communicate()
    assert told is not None
    assert run.returncode == 128 + sent
    assert told.replace("\n", "").endswith(f"Go on with: plainspoken run {tmp_path / 'run'}"), told
    again = zygote.run(zygote.PLAINSPOKEN, "corpus", str(tmp_path / "run"))
    assert again.returncode == 0
