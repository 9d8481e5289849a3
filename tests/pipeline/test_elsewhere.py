"""A run folder is used from any working directory, and when its corpus has gone; what fails at once leaves nothing."""

import json
import shutil
from pathlib import Path

import pytest

from plainspoken.config import Config, config_tree, load_config
from plainspoken.errors import ConfigError, CorpusError, ModelError, PlainspokenError, RunError
from plainspoken.pipeline import STAGES, Progress, generate, run, scores
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace

SITE = "gpt_neox.layers.0.mlp"


def changed(config: Config, **values: object) -> Config:
    """The settings with some others."""
    from plainspoken.config import flat_settings

    return load_config(**{n.replace(".", "__"): v for n, v in flat_settings(config).items()} | values)


@pytest.fixture
def home(tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a model and a text of one's own, worked in."""
    home = tmp_path / "home"
    shutil.copytree(tiny.lm.name, home / "models" / "mine")
    shutil.copy(tiny.corpus.source, home / "mine.jsonl")
    others = [
        json.dumps({"text": f"Another tale, number {i}: " + "the bear and the bee slept. " * 9}) for i in range(5)
    ]
    (home / "other.jsonl").write_text("\n".join(others))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("lm", "text"), [("models/mine", "mine.jsonl"), ("~/models/mine", "~/mine.jsonl")])
def test_what_was_typed_in_one_folder_holds_in_another(
    tiny: Config, home: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, lm: str, text: str
) -> None:
    typed = changed(tiny, lm__name=lm, corpus__source=text, corpus__eval_source=text.replace("mine.", "other."))
    run(typed, home / "run", target="corpus")
    monkeypatch.chdir(elsewhere)
    stored = stored_config(home / "run")
    assert (stored.lm.name, stored.corpus.source) == (str(home / "models" / "mine"), str(home / "mine.jsonl"))
    assert stored.corpus.eval_source == str(home / "other.jsonl")
    news: list[str] = []
    run(stored, "../home/run", target="corpus", progress=Progress(say=news.append))
    assert news == ["corpus: done before, skipped"]
    assert generate(Path("../home/run"), "The red", rewritten=False, tokens=2).startswith("The red")
    run(stored, "../home/run", target="corpus", force=["corpus"])
    monkeypatch.chdir(home)
    run(typed, "run", target="corpus", progress=Progress(say=news.append))
    assert news[1:] == ["corpus: done before, skipped"]


def test_a_text_that_was_moved_is_the_same_text(tiny: Config, home: Path) -> None:
    typed = changed(tiny, lm__name="models/mine", corpus__source="mine.jsonl")
    run(typed, "run", target="corpus")
    (home / "deep").mkdir()
    (home / "mine.jsonl").rename(home / "deep" / "mine.jsonl")
    moved, news = changed(typed, corpus__source="deep/mine.jsonl"), []
    run(moved, "run", target="corpus", progress=Progress(say=news.append))
    assert news == ["corpus: done before, skipped"]
    assert stored_config(Path("run")).corpus.source == str(home / "deep" / "mine.jsonl")


def test_a_finished_run_is_worked_with_when_its_corpus_has_gone(tiny: Config, copy: Path) -> None:
    gone = str(copy.parent / Path(tiny.corpus.source).name)
    (copy / "config.json").write_text(json.dumps(config_tree(changed(tiny, corpus__source=gone))))
    sentences = copy / "explain" / SITE / "explanations.jsonl"
    sentences.write_text(sentences.read_text().replace("Fires at 9", "Fires at 8", 1))
    warned: list[str] = []
    progress = Progress(warn=warned.append)
    assert run(stored_config(copy), copy, progress=progress) is not None
    assert generate(copy, "The red", tokens=2, progress=progress).startswith("The red")
    assert scores(copy, progress=progress).rows[SITE]
    assert warned == [warned[0]] * 3
    assert f"corpus.source is gone ({gone})" in warned[0]


def test_what_reads_a_corpus_that_has_gone_is_refused_and_touches_nothing(tiny: Config, home: Path, contents) -> None:
    typed = changed(tiny, lm__name="models/mine", corpus__source="mine.jsonl")
    run(typed, "run", target="corpus")
    (home / "mine.jsonl").unlink()
    stored, before = stored_config(Path("run")), contents(home / "run")
    with pytest.raises(CorpusError, match=r"no corpus at '.*mine\.jsonl'"):
        run(stored, "run", target="corpus", force=["corpus"])
    with pytest.raises(RunError, match=r"corpus\.context: 256 → 32"):
        run(changed(stored, corpus__context=32), "run", target="corpus")
    assert contents(home / "run") == before
    (home / "run" / "corpus" / "manifest.json").unlink()
    with pytest.raises(CorpusError, match=r"no corpus at '.*mine\.jsonl'"):
        run(stored, "run", target="corpus")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"corpus__source": "absent.jsonl"}, CorpusError),
        ({"corpus__eval_source": "absent.jsonl"}, CorpusError),
        ({"corpus__source": "self:9"}, CorpusError),
        ({"corpus__source": "self:4x999"}, CorpusError),
        ({"corpus__source": "short.txt"}, CorpusError),
        ({"corpus__source": "latin.txt"}, CorpusError),
        ({"lm__name": "./absent"}, ModelError),
        ({"site": "nowhere"}, PlainspokenError),
        ({"explain__explainer": "nobody"}, ConfigError),
        ({"train__prefixes": [8, 4]}, ConfigError),
    ],
)
def test_what_fails_at_once_leaves_nothing(
    tiny: Config, home: Path, wrong: dict[str, object], error: type[Exception]
) -> None:
    (home / "short.txt").write_text("a few words")
    (home / "latin.txt").write_bytes(b"caf\xe9 " * 400)
    with pytest.raises(error):
        run(changed(tiny, **wrong), "runs/new/run")
    assert not (home / "runs").exists()
    (home / "mine").mkdir()
    (home / "mine" / "notes.txt").write_text("not a run's")
    with pytest.raises(error):
        run(changed(tiny, **wrong), "mine")
    assert [p.name for p in (home / "mine").iterdir()] == ["notes.txt"]


def test_a_wrong_request_leaves_an_old_run_as_it_was(tiny: Config, home: Path, contents) -> None:
    run(tiny, "run", target="corpus")
    before = contents(home / "run")
    with pytest.raises(CorpusError):
        run(changed(tiny, corpus__source="absent.jsonl"), "run", target="corpus")
    with pytest.raises(ModelError):
        run(changed(tiny, lm__name="./absent"), "run", target="corpus")
    assert contents(home / "run") == before


def test_a_new_folder_has_its_settings_before_anything_is_loaded(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Workplace(tmp_path / "run", tiny, STAGES).locked():
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == config_tree(tiny)
    assert stored_config(tmp_path / "run") == tiny
