"""A run whose sentences language models write and read, killed in the midst of either: nothing is asked twice."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm.server import Server, serve
from pipeline.test_explainers import begun
from plainspoken.config import Config, config_tree
from plainspoken.pipeline import run
from plainspoken.pipeline.results import Results
from plainspoken.store import Manifest
from told_run import telling, told_config

SITE = "gpt_neox.layers.0.mlp"
CHILD = """
import json, sys
from pathlib import Path
from plainspoken.config import config_from_tree
from plainspoken.pipeline import run
task = json.loads(sys.stdin.read())
run(config_from_tree(task["config"]), Path(task["folder"]))
"""


def stage_of(body: dict[str, Any]) -> str | None:
    """What a request is of; None for the probes'."""
    if "[EXPLANATION]:" in str(body.get("messages")):
        return "explain"
    return "simulate" if body.get("logprob_token_ids") and len(str(body["prompt"])) > 2000 else None


def questions(server: Server) -> Counter[str]:
    """Every question of a run, and how often it was asked."""
    return Counter(json.dumps(body, sort_keys=True) for body in server.bodies if stage_of(body) is not None)


def killed_at(server: Server, stage: str, nth: int, config: Config, folder: Path) -> None:
    """The run, in a process that is killed while the n-th of the stage's questions is being answered."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE, text=True
    )
    seen = 0

    def kill(path: str, before: int, headers: dict[str, str]) -> None:
        nonlocal seen
        seen += stage_of(server.bodies[-1]) == stage
        if seen == nth:
            child.send_signal(signal.SIGKILL)

    server.trouble = kill
    child.communicate(json.dumps({"config": config_tree(config), "folder": str(folder)}), timeout=240)
    server.trouble = lambda path, before, headers: None
    assert child.returncode == -signal.SIGKILL, stage
    assert not (folder / stage / SITE / "manifest.json").exists()


@pytest.mark.slow
def test_killed_while_it_explains_and_while_it_simulates(
    tiny: Config, finished: Path, assistant: Path, tmp_path: Path
) -> None:
    """By SIGKILL, twice in each: the results are an undisturbed run's, and only what was in flight was asked twice."""
    with serve(telling()) as server:
        config = told_config(tiny, server.url, assistant)
        folder = begun(finished, tmp_path / "killed")
        for stage, nth in (("explain", 3), ("explain", 2), ("simulate", 20), ("simulate", 250)):
            killed_at(server, stage, nth, config, folder)
        run(config, folder)
        asked = questions(server)
        assert asked.total() - len(asked) <= 4
        server.bodies.clear()
        whole = begun(finished, tmp_path / "whole")
        run(config, whole)
        assert set(questions(server)) == set(asked)
    assert Results.read(folder).conditions == Results.read(whole).conditions
    for stage in ("explain", "simulate"):
        spent = Manifest.load(folder / stage / SITE / "manifest.json").counts["llm"]
        assert 0 < spent["from_cache"] < spent["asked"]
