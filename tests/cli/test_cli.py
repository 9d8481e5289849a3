"""The command line: bad input gets a clear message and its exit code, help teaches, nothing is lost."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from plainspoken.cli.app import app
from plainspoken.config import Config, flat_settings, load_config, preset_names
from plainspoken.errors import StoreError
from plainspoken.pipeline.machine import bring_up
from plainspoken.pipeline.stage import Outcome, Stage, Unit
from plainspoken.pipeline.workplace import Workplace

SITE = "gpt_neox.layers.0.mlp"
TINY = ("coder.latents=8", "coder.k=2", "train.tokens=512", "train.batch=64", "evaluate.bootstrap=20")


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty texts, one a line of JSON."""
    path = tmp_path_factory.mktemp("corpus") / "stories.jsonl"
    lines = [json.dumps({"text": f"Story {i}. " + f"The girl {i} saw a red ball in the park. " * 8}) for i in range(60)]
    path.write_text("\n".join(lines))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def run(lm: Path, corpus: object, out: Path, *more: object, site: str = SITE, verb: str = "train") -> Result:
    settings = [part for setting in TINY for part in ("--set", setting)]
    return call(verb, "--lm", lm, "--corpus", corpus, "--site", site, "--out", out, "--device", "cpu", *settings, *more)


def told(result: Result) -> str:
    """The message on one line: terminals wrap."""
    return " ".join(result.output.split())


def test_help_teaches() -> None:
    shown = call("--help").output
    assert "plainspoken run" in shown
    assert "explanations.jsonl" in shown
    for verb in (
        "run",
        "train",
        "evaluate",
        "generate",
        "score",
        "compare-coders",
        "connections",
        "dashboards",
        "settings",
    ):
        found = call(verb, "--help")
        assert found.exit_code == 0
        assert "plainspoken" in found.output


@pytest.mark.parametrize("verb", ["run", "explain", "simulate", "settings"])
def test_help_teaches_how_a_language_model_is_named_and_what_it_would_cost(verb: str) -> None:
    shown = " ".join(call(verb, "--help").output.split()) if verb != "settings" else call(verb).output
    assert "llm.service" in shown or "dry-run" in shown or "service = " in shown
    if verb in ("explain", "simulate", "settings"):
        assert "base_url" in shown and "docs/llm.md" in shown
    if verb != "settings":
        assert "--dry-run" in shown


def test_every_preset_can_be_loaded() -> None:
    for name in preset_names():
        assert load_config(name).preset == name
    paper, small = load_config("paper"), load_config("paper-small")
    assert (paper.explain.llm.service, small.explain.llm.service) == ("openai", "local")
    same = (
        "explain.explainer", "simulate.simulator", "simulate.calibrate_positions", "calibrate.calibrator",
        "evaluate.also_calibrated", "evaluate.positions", "evaluate.keep", "evaluate.orders", "evaluate.draws",
        "score.scorers", "score.rank_by", "coder.skip", "coder.kind",
    )  # fmt: skip
    for setting in same:
        assert flat_settings(paper)[setting] == flat_settings(small)[setting], setting


def test_every_setting_is_listed() -> None:
    shown = call("settings").output
    assert "coder.k = 16" in shown
    assert "corpus.source" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rin"], "No such command"),
        (["run", "--sitte", "x"], "No such option"),
        (["run", "--preset", "poket"], "nearest: pocket"),
        (["run", "--set", "coder.latent=3"], "nearest: coder.latents"),
        (["run", "--set", "coder.k=2000"], "lower coder.k or raise coder.latents"),
        (["run", "--set", "coder.k"], "key=value"),
        (["run", "/nowhere/at/all"], "no run folder"),
        (["generate", "/nowhere/at/all"], "no run folder"),
        (["run", "--config", "/nowhere.toml"], "cannot read the settings file"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(arguments: Sequence[str], message: str) -> None:
    found = call(*arguments)
    assert found.exit_code == 2
    assert message in told(found)


def test_an_unknown_site_names_the_nearest(neox_folder: Path, stories: Path, tmp_path: Path) -> None:
    found = run(neox_folder, stories, tmp_path / "run", site="gpt_neox.layers.9.mlp")
    assert found.exit_code == 2
    assert "nearest: gpt_neox.layers." in told(found)


def test_a_folder_without_a_tokenizer_says_so(neox_folder: Path, stories: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(neox_folder, bare, ignore=shutil.ignore_patterns("tokenizer*"))
    found = run(bare, stories, tmp_path / "run")
    assert found.exit_code == 2
    assert "tokenizer" in told(found)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "no text"),
        ("latin.txt", b"caf\xe9 " * 400, "UTF-8"),
        ("broken.jsonl", b"{nope\n", "line 1"),
        ("short.txt", b"a few words", "part"),
        ("absent.txt", None, "absent.txt"),
    ],
)
def test_a_bad_corpus_exits_with_2(
    neox_folder: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    found = run(neox_folder, path, tmp_path / "run")
    assert found.exit_code == 2
    assert message in told(found)


def test_evaluate_text_that_is_also_fitted_on_is_dropped_and_counted(
    neox_folder: Path, stories: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed.jsonl"
    others = [json.dumps({"text": f"Another tale {i}: " + "the cat hid some cake at home. " * 8}) for i in range(5)]
    mixed.write_text("\n".join([*stories.read_text().split("\n")[:3], *others]))
    found = run(neox_folder, stories, tmp_path / "run", "--eval-corpus", mixed, verb="corpus")
    assert found.exit_code == 0
    assert "3 of 8 evaluate documents" in told(found)


def test_activations_that_are_not_numbers_name_document_and_site(
    neox_folder: Path, stories: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    broken = tmp_path / "broken"
    shutil.copytree(neox_folder, broken)
    model = AutoModelForCausalLM.from_pretrained(neox_folder)
    model.get_submodule(SITE).dense_h_to_4h.bias.data.fill_(float("nan"))
    model.save_pretrained(broken)
    found = run(broken, stories, tmp_path / "run")
    assert found.exit_code == 1
    assert SITE in told(found)
    assert "stories.jsonl" in told(found)


def test_a_run_of_other_settings_is_refused(neox_folder: Path, stories: Path, tmp_path: Path) -> None:
    assert run(neox_folder, stories, tmp_path / "run").exit_code == 0
    found = run(neox_folder, stories, tmp_path / "run", "--set", "coder.k=3")
    assert found.exit_code == 2
    assert "coder.k: 2 → 3" in told(found)
    assert "--force train" in told(found)
    assert run(neox_folder, stories, tmp_path / "run", "--set", "coder.k=3", "--force", "train").exit_code == 0
    assert call("train", tmp_path / "run").exit_code == 0
    found = call("train", tmp_path / "run", "--force", "trian")
    assert (found.exit_code, "no such stage" in told(found)) == (2, True)


def test_a_coder_that_was_altered_is_named(neox_folder: Path, stories: Path, tmp_path: Path) -> None:
    assert run(neox_folder, stories, tmp_path / "run").exit_code == 0
    weights = tmp_path / "run" / "train" / SITE / "coder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    found = call("train", tmp_path / "run")
    assert found.exit_code == 1
    assert "coder.safetensors is altered" in told(found)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to write to")
def test_a_full_disk_is_told_whoever_wrote(neox_folder: Path, stories: Path, tmp_path: Path) -> None:
    def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
        torch.zeros(10).numpy().tofile("/dev/full")
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")
        yield Outcome(units[0])

    stage = Stage("writes", "writes", 1, ("seed",), (), work)
    config: Config = load_config(lm__name=str(neox_folder), corpus__source=str(stories))
    with pytest.raises(StoreError, match="disk is full"):
        bring_up(Workplace(tmp_path / "run", config, [stage]), [stage], "writes")


def test_train_ends_with_a_table_of_its_coders(neox_folder: Path, stories: Path, tmp_path: Path) -> None:
    found = run(neox_folder, stories, tmp_path / "run", site="gpt_neox.layers.*.mlp")
    assert found.exit_code == 0
    shown = found.output
    assert "FVU" in shown and "recovered" in shown
    assert "calibrate tokens" in told(found)
    for layer in (0, 1):
        assert f"figure: {tmp_path / 'run' / 'measure' / f'gpt_neox.layers.{layer}.mlp' / 'coder.svg'}" in shown
    assert not (tmp_path / "run" / "encode").exists()


def test_compare_coders_under_torchrun_is_refused_by_one_process_for_all(
    neox_folder: Path, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others end well: torchrun stops all of them at the first that fails, with its message unsaid."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        found = run(neox_folder, stories, tmp_path / "run", verb="compare-coders")
        ended.append((found.exit_code, "runs in one process, and torchrun started 2" in told(found), bool(told(found))))
    assert ended == [(2, True, True), (0, False, False)]
    assert not (tmp_path / "run").exists()


def test_compare_coders_ends_with_a_table_of_kinds(neox_folder: Path, stories: Path, tmp_path: Path) -> None:
    found = run(
        neox_folder, stories, tmp_path / "run", "--k", "1,2", "--kinds", "transcoder,sae", verb="compare-coders"
    )
    assert found.exit_code == 0
    assert "4 coders" in told(found)
    assert "transcoder - sae, k = 2: " in told(found)
    assert "compare.png" in told(found)
    found = call("compare-coders", tmp_path / "run", "--kinds", "saes")
    assert (found.exit_code, "compare.kinds" in told(found)) == (2, True)


def test_quiet_prints_nothing(neox_folder: Path, stories: Path, tmp_path: Path) -> None:
    found = run(neox_folder, stories, tmp_path / "run", "--quiet", verb="corpus")
    assert (found.exit_code, found.output) == (0, "")


IMPORTS = """
import sys, time
began = time.perf_counter()
import plainspoken
assert time.perf_counter() - began < 1.0
import plainspoken.cli
heavy = {"torch", "transformers", "scipy", "matplotlib", "sklearn", "datasets"} & set(sys.modules)
assert not heavy, heavy
assert set(plainspoken.__all__) <= set(dir(plainspoken))
for name in plainspoken.__all__:
    getattr(plainspoken, name)
"""


def test_import_is_quick_and_loads_no_torch_and_every_public_name_is_there() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


def test_a_folder_that_is_no_run_is_answered_with_the_runs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    verbs = ("run", "trace", "intervene", "connections", "dashboards", "score", "generate", "replace", "encode")
    for verb in verbs:
        result = call(verb, "docs", *(("--prompt", "x") if verb in ("trace", "intervene") else ()))
        assert result.exit_code != 0
        assert "docs is no run folder" in told(result)
        assert "--out docs" not in told(result)  # it stands already, and holds something else
        assert "make one with: plainspoken run (it goes to runs/pocket)" in told(result)
    assert "make one with: plainspoken run --out runs/new" in told(call("score", "runs/new"))
    for name in ("all", "pocket"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    (tmp_path / "runs" / "empty").mkdir()
    result = told(call("score", "runs/poket"))
    assert "run folders here, nearest first: runs/pocket, runs/all; or make one with" in result
    assert "runs/empty" not in result
    assert "nearest first: runs/all, runs/pocket" in told(call("score", "al"))
    assert told(call("study", "open", "docs", "0/0")).count("runs/pocket") == 2
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # beside what was typed, and beneath it
    for typed in ("../runs/pockt", "../runs"):
        assert "../runs/pocket" in told(call("score", typed))
