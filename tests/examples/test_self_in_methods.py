"""The example of a behaviour: its prompts have answers of single tokens, and it prints what the verb finds."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from plainspoken import pipeline
from plainspoken.circuits.prompt_pairs import answer
from plainspoken.config import load_config
from plainspoken.lm import LanguageModel, load_lm

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "self_in_methods"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("self_in_methods_study", FOLDER / "study.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_lm("pocket", device="cpu")


def test_prompts_are_different_seeded_and_answered_by_single_tokens(example: ModuleType, lm: LanguageModel) -> None:
    text = example.prompt_lines(100, 0)
    made = [json.loads(line) for line in text.splitlines()]
    assert len({each["prompt"] for each in made}) == 100
    assert text == example.prompt_lines(100, 0) != example.prompt_lines(100, 1)
    for each in made:
        last = each["contrast"].rpartition("def ")[2]
        assert each["prompt"].endswith(f"    def {last}") and "class" not in each["contrast"]
        assert "self" not in each["prompt"] and each["wanted"] == "self"
        for side in ("prompt", "contrast"):
            assert answer(lm, each[side], "self") != answer(lm, each[side], each["other"])


def test_more_prompts_than_the_templates_give_are_refused(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(example.prompt_lines.__globals__, "METHODS", ("class A:\n    def f(",))
    with pytest.raises(ValueError, match="no 2 different prompts"):
        example.prompt_lines(2, 0)


@pytest.mark.slow
def test_the_study_prints_what_the_verb_finds(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_config(
        site="gpt_neox.layers.*.mlp", lm__device="cpu", coder__latents=24, coder__k=4, train__tokens=2000,
        train__batch=512, corpus__fit_tokens=3000, corpus__explain_tokens=2000, corpus__calibrate_tokens=8000,
    )  # fmt: skip
    pipeline.run(settings, tmp_path / "run", target="train")
    asked = [str(tmp_path / "run"), "--prompts", "12", "--top", "3", "--draws", "2", "--curves", "1"]
    monkeypatch.setattr(sys, "argv", ["study.py", *asked])
    example.main()
    out = tmp_path / "run" / "behaviour" / "self"
    record = json.loads((out / "behaviour.json").read_text())
    assert (out / "study.md").read_text() in capsys.readouterr().out
    ablated, curve = record["ablation"], record["kept"]
    assert ablated["prompts"] == curve["prompts"] == record["finding"]["prompts"] == 6
    assert ablated["original"] == pytest.approx(curve["original"]) and ablated["original"] > 3
    assert len(record["latents"]) == 3 and len(ablated["draws"]) == 2
    assert f"{record['apart']['change']:+.2f}" in (out / "study.md").read_text()
    sizes = [each["size"] for each in record["latents"]]
    assert sizes == sorted(sizes, reverse=True) and np.isfinite(sizes).all()
    assert record["about"]["seed"] == 0 and set(record["about"]["coders"].values()) != {None}
