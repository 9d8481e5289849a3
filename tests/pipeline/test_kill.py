"""A run killed at any moment, and started again, gives what an undisturbed run gives."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plainspoken.config import Config
from plainspoken.pipeline.provenance import command_for

SITE = "gpt_neox.layers.0.mlp"
RESULTS = (
    "evaluate/results.json",
    f"train/{SITE}/coder.safetensors",
    f"train/{SITE}/log.jsonl",
    f"explain/{SITE}/explanations.jsonl",
    f"calibrate/{SITE}/calibration.safetensors",
)


def start(config: Config, folder: Path) -> subprocess.Popen[str]:
    """The command line at work on these settings, on one thread."""
    arguments = command_for(config, folder).split()[1:]
    return subprocess.Popen(
        [sys.executable, "-m", "plainspoken", *arguments, "--quiet"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
        # As at a person's prompt: what starts these tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_until_begun(run: subprocess.Popen[str], folder: Path) -> None:
    """Until the run has something to lose: its first file."""
    while not (folder / "config.json").exists() and run.poll() is None:
        time.sleep(0.02)


@pytest.mark.slow
def test_kill_9_at_random_moments_and_resume_gives_the_same_results(tiny: Config, tmp_path: Path) -> None:
    assert start(tiny, tmp_path / "whole").wait() == 0
    draw, kills, killed = random.Random(1), 0, tmp_path / "killed"
    while kills < 8:
        run = start(tiny, killed)
        wait_until_begun(run, killed)
        time.sleep(draw.uniform(0, 3))
        if run.poll() is not None:
            break
        run.send_signal(signal.SIGKILL)
        run.wait()
        kills += 1
    last = start(tiny, killed)
    assert last.wait() == 0, last.stderr.read() if last.stderr else ""
    assert kills > 0
    for name in RESULTS:
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not list(killed.rglob("*.part"))
    assert not list(killed.rglob("started.json"))


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tiny: Config, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run")
    wait_until_begun(run, tmp_path / "run")
    run.send_signal(signal.SIGINT)
    _, told = run.communicate()
    assert run.returncode == 130
    assert f"plainspoken run {tmp_path / 'run'}" in told.replace("\n", "")
