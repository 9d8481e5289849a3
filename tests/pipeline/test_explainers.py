"""Runs whose explanations a language model writes: each explainer up to `explain`, what it cost, killed and resumed."""

import dataclasses
import json
import shutil
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import zygote
from explain_scene import prompts, says
from llm.server import Server, serve
from plainspoken.config import Config, LimitsConfig, config_from_tree, config_tree
from plainspoken.errors import RunError
from plainspoken.pipeline import STAGES, explanations, run
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import read_json

SITE = "gpt_neox.layers.0.mlp"
BEFORE = ("corpus", "train", "measure", "encode")
SAID = "Fires at 9 on “the”."
SETTINGS: dict[str, Any] = {"least_examples": 2, "window": 8, "examples": 10, "quantiles": 5, "words": 20}


def asking(tiny: Config, url: str, tokenizer: Path, **explain: Any) -> Config:
    """The tests' tiny run with a language model to explain, at this address."""
    llm = {"service": "openai", "model": "test", "base_url": url, "tokenizer": str(tokenizer), "retries": 0}
    return with_explain(tiny, {**SETTINGS, "llm": llm, **explain})


def with_explain(config: Config, settings: dict[str, Any]) -> Config:
    """The same run with other settings of explaining."""
    tree = config_tree(config)
    for name, value in settings.items():
        tree["explain"][name] = {**tree["explain"]["llm"], **value} if name == "llm" else value
    return config_from_tree(tree)


def begun(finished: Path, folder: Path) -> Path:
    """A run folder in which all before `explain` is done."""
    for name in BEFORE:
        shutil.copytree(finished / name, folder / name)
    return folder


SIX = (
    "default", "contrastive", "token_list", "weights", pytest.param("evidence", marks=pytest.mark.slow), "best_of",
)  # fmt: skip


@pytest.mark.parametrize("name", SIX)
def test_each_explainer_runs_whole(name: str, tiny: Config, finished: Path, assistant: Path, tmp_path: Path) -> None:
    server = Server(reply=says(f"[EXPLANATION]: {SAID}"))
    more = {"candidates_from": ["default", "contrastive"], "candidates": 2} if name == "best_of" else {}
    with serve(server):
        run(
            asking(tiny, server.url, assistant, explainer=name, **more),
            begun(finished, tmp_path / "run"),
            target="explain",
        )
    folder = tmp_path / "run" / "explain" / SITE
    written = explanations.read_explanations(folder)
    manifest = read_json(folder / "manifest.json")
    failed = {failure["latent"]: failure for failure in manifest["failures"]}
    assert set(written) | set(failed) == set(range(12))
    assert not set(written) & set(failed)
    assert {e.text for e in written.values()} == ({SAID} if written else set())
    if name != "token_list":  # of this random coder few latents are single tokens', or none
        assert written
    assert {failure["kind"] for failure in failed.values()} <= {"not explained", None}
    assert all(len(e.prompt_hash or "") == 64 for e in written.values())
    spent = manifest["counts"].get("llm", {"requests": 0})
    assert spent["requests"] == len(prompts(server))
    if name == "best_of":
        assert {e.explainer for e in written.values()} <= {"best_of default", "best_of contrastive"}


@pytest.mark.slow
def test_a_pocket_model_in_process_answers_or_fails_in_kinds(tiny: Config, finished: Path, tmp_path: Path) -> None:
    """It goes on with text, and does so in code: what comes of it is an explanation all the same, or says why not."""
    settings = {**SETTINGS, "explainer": "default", "examples": 2, "quantiles": 2, "words_max": 30, "max_tokens": 40}
    config = with_explain(tiny, settings)
    run(config, begun(finished, tmp_path / "run"), target="explain")
    folder = tmp_path / "run" / "explain" / SITE
    written = explanations.read_explanations(folder)
    failures = read_json(folder / "manifest.json")["failures"]
    assert len(written) + len(failures) == 12
    assert written
    assert {failure["kind"] for failure in failures} <= {
        "not explained",
        "parse",
        "beyond context",
        "cut answer",
        "too many words",
        "refused",
    }
    assert all(1 <= e.words <= 30 and e.text.isprintable() for e in written.values())


def test_what_an_explainer_does_not_read_makes_no_other_run(
    tiny: Config, finished: Path, copy: Path, assistant: Path, tmp_path: Path
) -> None:
    """Of rules: no setting of a language model; of one: only its own, and how it is reached may change."""
    done = read_json(copy / "explain" / SITE / "manifest.json")
    run(
        with_explain(tiny, {"examples": 3, "temperature": 1.0, "candidates": 7, "llm": {"model": "x"}}),
        copy,
        target="explain",
    )
    assert read_json(copy / "explain" / SITE / "manifest.json") == done
    server = Server(reply=says(f"[EXPLANATION]: {SAID}"))
    with serve(server):
        folder = begun(finished, tmp_path / "asked")
        run(asking(tiny, server.url, assistant, explainer="default"), folder, target="explain")
        asked = len(prompts(server))
        again = asking(tiny, server.url, assistant, explainer="default", negatives=3, candidates=9)
        run(with_explain(again, {"llm": {"retries": 3}}), folder, target="explain")
        assert len(prompts(server)) == asked
        with pytest.raises(RunError):
            run(asking(tiny, server.url, assistant, explainer="default", highlight=0.5), folder, target="explain")


def test_what_judges_the_candidates_is_among_the_settings(tiny: Config) -> None:
    from plainspoken.pipeline.stages.explain import unread

    assert "simulate" in unread(with_explain(tiny, {"explainer": "default"}))
    judged = unread(with_explain(tiny, {"explainer": "best_of"}))
    assert "simulate" not in judged
    assert {"simulate.llm", "simulate.calibrate_positions", "explain.negatives"} <= set(judged)
    # The frontier simulates, whoever explains.
    (frontier,) = (stage for stage in STAGES if stage.name == "frontier")
    assert frontier.unread is not None
    assert "simulate" not in frontier.unread(with_explain(tiny, {"explainer": "default"}))


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script> & “x”", "a\tb\x1b[0m\nc\u2028d", "\U0001f600 {{x}} %s \\n"]
)
def test_free_english_is_kept_and_escaped(
    text: str, tiny: Config, finished: Path, assistant: Path, tmp_path: Path
) -> None:
    server = Server(reply=says(f"[EXPLANATION]: {text}"))
    with serve(server):
        folder = begun(finished, tmp_path / "run")
        run(asking(tiny, server.url, assistant, explainer="default"), folder, target="explain")
    said = " ".join(text.replace("\x1b", " ").split())
    written = explanations.read_explanations(folder / "explain" / SITE)
    assert {e.text for e in written.values()} == {said}
    assert not explanations.is_edited(folder / "explain" / SITE)


@pytest.mark.slow
@pytest.mark.checked
def test_a_report_shows_whatever_english_there_is_and_runs_none_of_it(
    tiny: Config, finished: Path, assistant: Path, tmp_path: Path
) -> None:
    """Half of the sentences the rule simulator can read; the other half it cannot, and says so latent by latent."""
    script = "<script>alert(1)</script>"

    def answer(prompt: str) -> str:
        english = f"Fires at 9 on “{script}” or “the”." if len(prompt) % 2 else f"On {script} & <<marks>>, freely."
        return f"[EXPLANATION]: {english}"

    server = Server(reply=says(answer))
    with serve(server):
        folder = begun(finished, tmp_path / "run")
        run(asking(tiny, server.url, assistant, explainer="default"), folder)
    texts = {e.text for e in explanations.read_explanations(folder / "explain" / SITE).values()}
    assert len(texts) == 2
    assert all(script in text for text in texts)
    page = (folder / "report.html").read_text()
    assert script not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


CHILD = """
import json, sys
from pathlib import Path
from plainspoken.config import config_from_tree
from plainspoken.pipeline import run
task = json.loads(sys.stdin.read())
run(config_from_tree(task["config"]), Path(task["folder"]), target="explain")
"""


@pytest.mark.slow
def test_a_killed_run_resumes_and_asks_nothing_twice(
    tiny: Config, finished: Path, assistant: Path, tmp_path: Path
) -> None:
    """Killed while the fifth of the prompts is being answered: only that one is asked for again."""
    child: list[zygote.Forked] = []
    asked = threading.Semaphore(4)

    def answer(prompt: str) -> str:
        if child and not asked.acquire(blocking=False):
            child.pop().send_signal(signal.SIGKILL)
        return f"[EXPLANATION]: {SAID}"

    server = Server(reply=says(answer))
    with serve(server):
        folder = begun(finished, tmp_path / "run")
        config = asking(tiny, server.url, assistant, explainer="default")
        config = dataclasses.replace(config, limits=LimitsConfig(concurrency=1))
        process = zygote.start(CHILD, stdin=subprocess.PIPE)
        child.append(process)
        process.communicate(json.dumps({"config": config_tree(config), "folder": str(folder)}), timeout=120)
        assert process.returncode == -signal.SIGKILL
        assert len(prompts(server)) == 5
        run(config, folder, target="explain")
    times = Counter(json.dumps(body, sort_keys=True) for body in prompts(server))
    assert sorted(times.values()) == [1] * (len(times) - 1) + [2]
    written = explanations.read_explanations(folder / "explain" / SITE)
    assert len(times) == len(written) > 5
    spent = read_json(folder / "explain" / SITE / "manifest.json")["counts"]["llm"]
    assert (spent["asked"], spent["from_cache"]) == (len(written), 4)


def test_another_model_in_a_folder_of_the_same_name_is_another_runs(
    tiny: Config, neox_folder: Path, tmp_path: Path
) -> None:
    kept = []
    for place in ("one", "two"):
        shutil.copytree(neox_folder, tmp_path / place / "model")
        if place == "two":
            (tmp_path / place / "model" / "chat_template.jinja").write_text("another")
        tree = config_tree(tiny)
        tree["explain"] |= {
            "explainer": "default",
            "llm": {**tree["explain"]["llm"], "model": str(tmp_path / place / "model")},
        }
        workplace = Workplace(tmp_path / "run", config_from_tree(tree), STAGES)
        settings = workplace.settings(workplace.stage("explain"))
        assert settings["explain.llm.model"] == "model"  # wherever it lies, it is the same by its name and content
        kept.append(settings)
    one, two = kept
    assert {name for name in one if one[name] != two[name]} == {"content of explain.llm.model"}
