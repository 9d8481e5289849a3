"""What the settings alone tell is told before any model is loaded: here the model to rewrite is none at all."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plainspoken.config import Config, load_config
from plainspoken.errors import ConfigError, ModelError, PlainspokenError, RunError
from plainspoken.pipeline import STAGES, dry_run, run, scores
from plainspoken.pipeline.machine import to_do
from plainspoken.pipeline.workplace import Workplace

SERVER = ("simulate.simulator=last-token", "simulate.llm.service=openai", "simulate.llm.model=m")


def refused(folder: Path, *overrides: str, target: str = "report") -> str:
    """What a run of these settings is refused with; nothing may be left of it."""
    config = load_config(overrides=overrides, lm__name=str(folder / "no such model"))
    with pytest.raises(PlainspokenError) as refusal:
        run(config, folder / "run", target=target)
    assert not (folder / "run").exists()
    return f"{type(refusal.value).__name__}: {refusal.value}"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("simulate.simulator=al-at-once",), "simulate.simulator is 'al-at-once'; .*; nearest: all-at-once"),
        (("explain.explainer=defalt",), "explain.explainer is 'defalt'; .*; nearest: default"),
        (("score.scorers=detection,fuzing",), "score.scorers is 'fuzing'; .*; nearest: fuzzing"),
        (("score.rank_by=detection f1",), "add detection to score.scorers"),
        (("simulate.gate=embeddings",), "simulate.gate is 'embeddings'; .*; nearest: embedding"),
        (("calibrate.calibrator=quantiles",), "calibrate.calibrator is 'quantiles'; .*; nearest: quantile"),
        (("evaluate.also_calibrated=linaer",), "evaluate.also_calibrated is 'linaer'; .*; nearest: linear"),
        ((*SERVER, "simulate.llm.key_variable=NO_SUCH_KEY"), "simulate.llm: .*NO_SUCH_KEY.* is not set"),
        ((*SERVER, "simulate.llm.base_url=localhost:8000"), "simulate.llm: base_url .* is no address"),
        (
            (*SERVER, "simulate.simulator=all-at-once", "simulate.strategy=in-process"),
            "strategy = in-process is for a model in this process",
        ),
        (
            (*SERVER, "simulate.simulator=batched", "simulate.llm.service=llama", "simulate.strategy=echo"),
            "strategy = echo .*llama-server",
        ),
        (
            ("explain.explainer=default", "explain.llm.model=./absent"),
            "explain.llm: model: .*no folder './absent'",
        ),
        ((*SERVER, "simulate.llm.tokenizer=./absent"), "simulate.llm: tokenizer: there is no folder './absent'"),
        (("explain.explainer=default", "explain.llm.tokenizer=other"), "explain.llm: .*brings its own: leave it out"),
        (("explain.explainer=default", "explain.llm.key_variable=NO_SUCH_KEY"), "explain.llm: .*service is local"),
        (("score.scorers=detection", "score.llm.service=llama", "score.llm.key_variable=NO_SUCH_KEY"), "score.llm: "),
        (("explain.explainer=best_of", *SERVER, "simulate.llm.key_variable=NO_SUCH_KEY"), "simulate.llm: .*not set"),
    ],
)
def test_what_the_settings_tell_is_told_first(
    overrides: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    told = refused(tmp_path, *overrides)
    assert re.match(rf"ConfigError: .*{words}", told), told


def test_without_the_openai_package_it_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plainspoken.llm.openai_wire.find_spec", lambda name: None)
    assert "simulate.llm: asking a server needs the openai package" in refused(tmp_path, *SERVER)


def test_who_is_not_asked_need_not_be_reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of a section that the rules do, nor of a stage that is not wanted, nor in a dry run: the model is missed."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    no_key = "simulate.llm.key_variable=NO_SUCH_KEY"
    assert refused(tmp_path, "simulate.llm.service=openai", no_key).startswith(ModelError.__name__)
    assert refused(tmp_path, *SERVER, no_key, target="encode").startswith(ModelError.__name__)
    config = load_config(overrides=[*SERVER, no_key], lm__name=str(tmp_path / "no such model"))
    with pytest.raises(ModelError):
        dry_run(config, tmp_path / "run")


def test_scorers_are_looked_for_before_the_run_is_brought_up(copy: Path) -> None:
    (copy / "calibrate").rename(copy / "away")
    with pytest.raises(ConfigError, match=r"score\.scorers is 'detecton'; .*nearest: detection"):
        scores(copy, by=["detecton"])
    assert not (copy / "calibrate").exists()


def test_a_corpus_that_is_not_there_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("source", "eval_source"):
        assert "CorpusError: no corpus at 'absent.jsonl'" in refused(tmp_path, f"corpus.{setting}=absent.jsonl")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'plainspoken[hub]'" in refused(tmp_path, "corpus.source=hf:roneneldan/TinyStories")
    config = load_config(overrides=[*SERVER, "corpus.source=absent.jsonl"], lm__name=str(tmp_path / "no such model"))
    with pytest.raises(PlainspokenError, match="no corpus at"):
        dry_run(config, tmp_path / "run")


def with_model_gone(config: Config, folder: Path, **coder: object) -> Config:
    """The settings with the model in a place where it no longer is: by its name it is the same."""
    return replace(
        config,
        lm=replace(config.lm, name=str(folder / "gone" / Path(config.lm.name).name)),
        coder=replace(config.coder, **coder),
    )


def test_a_run_of_other_settings_is_told_first(
    copy: Path, tiny: Config, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    before = contents(copy)
    other = with_model_gone(tiny, tmp_path, k=4)
    told = r"holds a run of other settings:\n  coder\.k: 3 → 4  \(train\)\n.*--force train"
    for config in (other, replace(other, site="gpt_neox.layers.[01].mlp, gpt_neox.layers.1")):
        with pytest.raises(RunError, match=told):
            run(config, copy)
        with pytest.raises(RunError, match=told):
            to_do(Workplace(copy, config, STAGES), STAGES, "report")
    assert contents(copy) == before


def test_a_text_of_other_content_is_told_first(copy: Path, tiny: Config, corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / corpus.name
    other.parent.mkdir()
    other.write_text(corpus.read_text() + '\n{"text": "one more"}')
    config = with_model_gone(replace(tiny, corpus=replace(tiny.corpus, source=str(other))), tmp_path)
    with pytest.raises(RunError, match=r"(?s)text of corpus\.source: .*--force corpus"):
        run(config, copy)


def test_what_is_no_other_setting_is_not_told(copy: Path, tiny: Config, tmp_path: Path) -> None:
    """The same settings, those of a stage that is redone, and those of another site's folder: the model is missed."""
    other = with_model_gone(tiny, tmp_path, k=4)
    for config, force in (
        (with_model_gone(tiny, tmp_path), ()),
        (other, ("train",)),
        (replace(other, site="gpt_neox.layers.1.mlp"), ("evaluate",)),
    ):
        with pytest.raises(ModelError):
            run(config, copy, force=force)
