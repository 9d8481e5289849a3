"""A run whose sentences language models write and read, killed in the midst of either: nothing is asked twice."""

import dataclasses
import json
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import zygote
from llm.server import Server, Trouble, serve
from pipeline.test_explainers import begun
from plainspoken.config import Config, config_tree
from plainspoken.llm import Spent
from plainspoken.pipeline import explanations, run
from plainspoken.pipeline.asked import llm_costs
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


def killed_at(server: Server, stage: str, nth: int, config: Config, folder: Path, after: str = "") -> None:
    """The run, in a process that is killed while the n-th of the stage's questions is answered: nothing comes back.

    Those before a file of the run (`after`) was there are not counted.
    """
    child = zygote.start(CHILD, stdin=subprocess.PIPE)
    seen = 0

    def kill(path: str, before: int, headers: dict[str, str]) -> Trouble | None:
        nonlocal seen
        seen += stage_of(server.bodies[-1]) == stage and (folder / after).exists()
        if seen < nth:
            return None
        child.send_signal(signal.SIGKILL)
        return Trouble(drop=True)

    server.trouble = kill
    child.communicate(json.dumps({"config": config_tree(config), "folder": str(folder)}), timeout=240)
    server.trouble = lambda path, before, headers: None
    assert child.returncode == -signal.SIGKILL, stage


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
            assert not (folder / stage / SITE / "manifest.json").exists()
        run(config, folder, target="evaluate")
        asked = questions(server)
        assert asked.total() - len(asked) <= 4
        server.bodies.clear()
        whole = begun(finished, tmp_path / "whole")
        run(config, whole, target="evaluate")
        assert set(questions(server)) == set(asked)
    assert Results.read(folder).conditions == Results.read(whole).conditions
    for stage in ("explain", "simulate"):
        spent = Manifest.load(folder / stage / SITE / "manifest.json").counts["llm"]
        assert 0 < spent["from_cache"] < spent["asked"]


def bill(folder: Path) -> Spent:
    """What the whole run cost, its probes included."""
    return sum((cost.spent for cost in llm_costs(folder)), Spent())


def reworded(folder: Path, sentences: int) -> None:
    """So many sentences with a word more."""
    path = folder / "explain" / SITE / explanations.CURRENT
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[:sentences]:
        line["text"] = f"Only {line['text']}"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


CALIBRATE, SCORING = (f"simulate/{SITE}/{share}.safetensors" for share in ("calibrate", "scoring"))
KILLS = [
    pytest.param([("simulate", 1, CALIBRATE)], (), id="one share whole"),
    pytest.param(
        [
            ("explain", 3, ""),
            ("simulate", 1, CALIBRATE),
            ("simulate", 1, SCORING),
            ("edit", 2, ""),
            ("simulate", 20, "evaluate/manifest.json"),
        ],
        (15, 20),
        id="several times, edited, in the frontier",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "budgets"), KILLS)
def test_the_bill_of_a_run_that_was_killed_is_what_the_server_counted(
    steps: list[tuple[str, int, str]],
    budgets: tuple[int, ...],
    tiny: Config,
    finished: Path,
    assistant: Path,
    tmp_path: Path,
) -> None:
    """To the last request and token, probes and all, but for the request that a kill left without an answer.

    What stands in no manifest of a killed attempt is paid earlier, and what is made anew is billed alone.
    """
    with serve(telling()) as server:
        config = told_config(tiny, server.url, assistant)
        config = dataclasses.replace(config, report=dataclasses.replace(config.report, frontier=budgets))
        folder, kills = begun(finished, tmp_path / "run"), 0
        for step, count, after in steps:
            if step == "edit":
                reworded(folder, count)
            else:
                killed_at(server, step, count, config, folder, after)
                kills += 1
        standing, before = bill(folder), server.seen.total()
        run(config, folder, target="frontier")
        told = bill(folder)
        assert told.requests + told.earlier_requests == server.seen.total() - kills
        assert told.prompt_tokens + told.earlier_prompt_tokens == server.sent
        assert told.cached_tokens + told.earlier_cached_tokens == server.sent - server.computed
        assert told.requests == standing.requests + server.seen.total() - before, "all else is paid earlier"
        assert told.earlier_requests > 0 and told.earlier_seconds > 0
        reworded(folder, 1)
        asked = server.seen.total()
        run(config, folder, target="simulate")
        anew = [cost.spent for cost in llm_costs(folder) if cost.stage.startswith("simulate")]
        assert sum(spent.requests for spent in anew) == server.seen.total() - asked > 0
        assert not any(spent.earlier_requests for spent in anew)
