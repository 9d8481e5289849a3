"""The example of a behaviour: prompts of single tokens, two halves apart, and a study that ends in its three files."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from plainspoken import pipeline
from plainspoken.config import load_config
from plainspoken.errors import UsageError
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
    made = example.make_prompts(lm, 100, 0)
    assert len(set(made.methods.prompts)) == 100 and made == example.make_prompts(lm, 100, 0)
    assert made != example.make_prompts(lm, 100, 1)

    def decode(tokens: list[int]) -> str:
        return str(lm.tokenizer.decode(tokens))

    assert {decode([token]) for token in made.methods.wanted} == {"self"}
    for method, function, text in zip(made.methods.prompts, made.top_level.prompts, made.texts, strict=True):
        assert decode(list(method[1:])) == text and method[0] == function[0] == lm.bos_id
        last = decode(list(function)).rpartition("def ")[2]
        assert text.endswith(f"    def {last}") and "class" not in decode(list(function)) and "self" not in text


def test_a_word_of_several_tokens_is_refused(example: ModuleType, lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match="no single token"):
        example.make_prompts.__globals__["next_token"](lm, "def read(", "thermodynamics")


def test_more_prompts_than_the_templates_give_are_refused(
    example: ModuleType, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(example.make_prompts.__globals__, "METHODS", ("class A:\n    def f(",))
    with pytest.raises(UsageError, match="no 2 different prompts"):
        example.make_prompts(lm, 2, 0)


def test_the_study_writes_its_figures_and_finds_nothing_on_the_prompts_it_reports_on(
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
    out = tmp_path / "run" / "self_in_methods"
    record = json.loads((out / "study.json").read_text())
    assert (out / "study.md").read_text() in capsys.readouterr().out
    assert (out / "kept.svg").read_text().startswith("<svg")
    ablated, curve = record["methods"]["ablation"], record["methods"]["kept"]
    assert ablated["prompts"] == curve["prompts"] == record["finding"]["prompts"] == 6
    assert ablated["original"] == pytest.approx(curve["original"]) and ablated["original"] > 3
    assert len(record["latents"]) == 3 and len(ablated["draws"]) == 2
    sizes = [each["size"] for each in record["latents"]]
    assert sizes == sorted(sizes, reverse=True) and np.isfinite(sizes).all()
    assert record["about"]["seed"] == 0 and set(record["about"]["coders"].values()) != {None}
