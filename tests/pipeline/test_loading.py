"""A run with a coder from elsewhere: the results are the same, and what does not fit is told before anything else."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from plainspoken.coders import FORMATS, Coder, CoderSpec, load_any, load_coder
from plainspoken.config import Config
from plainspoken.errors import CoderError, ConfigError, RunError, UsageError
from plainspoken.pipeline import Progress, run
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.stored import stored_config
from plainspoken.store import sha256_file
from plainspoken.types import Site

SITE = "gpt_neox.layers.0.mlp"


def loading(config: Config, path: Path, site: str | None = None) -> Config:
    return dataclasses.replace(
        config, site=site or config.site, coder=dataclasses.replace(config.coder, latents=999, load=str(path))
    )


def made(folder: Path, form: str, spec: CoderSpec, module: str | None = None) -> Coder:
    coder = Coder(spec)
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.normal_()
    save = FORMATS[form].save
    assert save is not None
    save(folder, coder, Site(module or folder.name, "mlp", spec.d_in, spec.d_out))
    return coder


@pytest.mark.slow
def test_a_run_of_the_same_coder_has_the_same_results(finished: Path, tiny: Config, tmp_path: Path) -> None:
    """Whatever is said of the latents in the settings; its place may be gone afterwards."""
    there = tmp_path / "theirs" / "layers.0.mlp"
    coder, site, _ = load_any(finished / "train" / SITE)
    save = FORMATS["sparsify"].save
    assert save is not None
    save(there, coder, site)
    config = loading(tiny, there)
    run(config, tmp_path / "run", target="evaluate")
    assert Results.read(tmp_path / "run").conditions == Results.read(finished).conditions
    manifest = json.loads((tmp_path / "run" / "train" / SITE / "manifest.json").read_text())
    assert manifest["counts"]["loaded"]["format"] == "sparsify"
    assert len(manifest["counts"]["loaded"]["sha256"]) == 64
    assert manifest["config"]["coder.load"] == there.name
    shutil.rmtree(tmp_path / "theirs")
    run(config, tmp_path / "run", target="evaluate")


def test_a_run_takes_its_coders_from_another_run_or_from_folders_named_after_the_sites(
    finished: Path, tiny: Config, tmp_path: Path
) -> None:
    news: list[str] = []
    run(loading(tiny, finished), tmp_path / "one", target="train", progress=Progress(say=news.append))
    assert news[-1] == f"train: take the coder from {finished}"
    weights = Path("train") / SITE / "coder.safetensors"
    assert sha256_file(tmp_path / "one" / weights) == sha256_file(finished / weights)
    spec = CoderSpec("transcoder", "relu", 10, None, True, 16, 16)
    coders = [made(tmp_path / "theirs" / f"layers.{layer}.mlp", "saelens", spec) for layer in (0, 1)]
    every = loading(tiny, tmp_path / "theirs", site="gpt_neox.layers.*.mlp")
    run(every, tmp_path / "two", target="encode")
    for layer, coder in enumerate(coders):
        found = load_coder(tmp_path / "two" / "train" / f"gpt_neox.layers.{layer}.mlp")
        assert torch.equal(found.W_dec, coder.W_dec)


def test_what_does_not_fit_is_told_before_anything_is_read(tiny: Config, tmp_path: Path) -> None:
    made(tmp_path / "wide", "sparsify", CoderSpec("transcoder", "topk", 10, 2, False, 32, 32))
    made(tmp_path / "sae", "sparsify", CoderSpec("sae", "topk", 10, 2, False, 16, 16))
    made(tmp_path / "some" / "layers.1.mlp", "sparsify", CoderSpec("transcoder", "topk", 10, 2, False, 16, 16))
    both = "gpt_neox.layers.*.mlp"
    for path, site, words in (
        (tmp_path / "wide", None, rf"widths 32 -> 32, but {SITE} has 16 -> 16"),
        (tmp_path / "sae", None, rf"an sae, but {SITE} is an FFN"),
        (tmp_path / "nowhere", None, "nowhere is not there"),
        (tmp_path / "wide", both, "names one coder .* 2 sites; name a folder"),
        (tmp_path / "some", both, rf"no folder for {SITE}; there are: layers\.1\.mlp"),
        (tmp_path / "some", None, "but below it do: .*layers.1.mlp"),
    ):
        with pytest.raises(CoderError, match=words):
            run(loading(tiny, path, site), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_one_folder_for_two_sites_is_told(tiny: Config, tmp_path: Path) -> None:
    """The same coder would stand at both; where each has a folder of its own, it may be of so short a name."""
    spec, both = CoderSpec("transcoder", "topk", 10, 2, False, 16, 16), "gpt_neox.layers.*.mlp"
    made(tmp_path / "many" / "mlp", "sparsify", spec)
    with pytest.raises(
        CoderError, match=rf"many/mlp fits both {SITE} and gpt_neox\.layers\.1\.mlp; give each site a folder"
    ):
        run(loading(tiny, tmp_path / "many", both), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    made(tmp_path / "many" / "layers.1.mlp", "sparsify", spec)
    run(loading(tiny, tmp_path / "many", both), tmp_path / "run", target="train")


TOPK = CoderSpec("transcoder", "topk", 10, 2, False, 16, 16)


def warnings_of(config: Config, out: Path) -> list[str]:
    warned: list[str] = []
    run(config, out, target="train", progress=Progress(warn=warned.append))
    return warned


@pytest.mark.parametrize(
    ("folder", "module", "form"),
    [
        ("theirs", "gpt_neox.layers.1.mlp", "sparsify"),
        ("theirs", "layers.1.mlp", "plainspoken"),
        ("layers.1.mlp", None, "sparsify"),
    ],
)
def test_a_coder_of_another_site_is_taken_with_a_warning(
    tiny: Config, tmp_path: Path, folder: str, module: str | None, form: str
) -> None:
    """Whether it says so itself, or its folder does."""
    path = tmp_path / folder
    made(path, form, TOPK, module or folder)
    if module is None:
        cfg = json.loads((path / "cfg.json").read_text())
        (path / "cfg.json").write_text(json.dumps({name: value for name, value in cfg.items() if name != "hookpoint"}))
    [said] = warnings_of(loading(tiny, path), tmp_path / "run")
    assert f"{path} holds a coder of {module or folder}" in said and f"taken for {SITE}" in said
    assert "--site gpt_neox.layers.1.mlp" in said


@pytest.mark.parametrize("module", [SITE, "layers.0.mlp", "mlp", "1", "blocks.1.hook_mlp_out", "model.layers.1.mlp"])
def test_a_name_that_is_no_other_site_of_this_model_says_nothing(tiny: Config, tmp_path: Path, module: str) -> None:
    made(tmp_path / "theirs", "plainspoken", TOPK, module)
    assert warnings_of(loading(tiny, tmp_path / "theirs"), tmp_path / "run") == []


def test_a_coder_of_another_model_is_taken_with_a_warning(
    finished: Path, tiny: Config, llama_folder: Path, tmp_path: Path
) -> None:
    assert warnings_of(loading(tiny, finished), tmp_path / "same") == []
    other = dataclasses.replace(tiny, lm=dataclasses.replace(tiny.lm, name=str(llama_folder)))
    [said] = warnings_of(loading(other, finished / "train" / SITE, "model.layers.0.mlp"), tmp_path / "other")
    assert f"{finished / 'train' / SITE} was trained on tiny-neox" in said and "not that of tiny-llama" in said


def test_a_coder_of_unknown_k_is_told_where_the_evaluation_needs_it(tiny: Config, tmp_path: Path) -> None:
    made(tmp_path / "relu", "saelens", CoderSpec("transcoder", "relu", 10, None, False, 16, 16))
    config = loading(tiny, tmp_path / "relu")
    config = dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, keep="top-k"))
    with pytest.raises(ConfigError, match=r"keep is top-k, but nothing in .*relu tells its k; use evaluate\.keep=all"):
        run(config, tmp_path / "run")


SKIPPED = "train: done before, skipped"


@pytest.mark.parametrize("form", ["sparsify", "plainspoken"])
@pytest.mark.parametrize("above", ["one", "layers"])
def test_a_coder_in_another_place_is_the_same_by_its_name_and_content(
    tiny: Config, tmp_path: Path, form: str, above: str
) -> None:
    """Whether it is named itself, or a folder above it; its time of writing does not count, nor what lies beside it."""
    folder = {"one": Path("layers.0.mlp"), "layers": Path("theirs") / "layers.0.mlp"}[above]
    made(tmp_path / "here" / folder, form, CoderSpec("transcoder", "topk", 10, 2, False, 16, 16))
    run(loading(tiny, tmp_path / "here" / folder.parts[0]), tmp_path / "run", target="train")
    weights = (tmp_path / "run" / "train" / SITE / "coder.safetensors").read_bytes()
    (tmp_path / "there").mkdir()
    (tmp_path / "here").rename(tmp_path / "there" / "deep")
    (tmp_path / "there" / "deep" / folder / "notes.txt").write_text("mine")
    (tmp_path / "run").rename(tmp_path / "moved")
    news: list[str] = []
    moved = loading(tiny, tmp_path / "there" / "deep" / folder.parts[0])
    run(moved, tmp_path / "moved", target="train", progress=Progress(say=news.append))
    assert news[-1] == SKIPPED
    assert (tmp_path / "moved" / "train" / SITE / "coder.safetensors").read_bytes() == weights
    assert stored_config(tmp_path / "moved").coder.load == str(tmp_path / "there" / "deep" / folder.parts[0])


def test_other_content_in_the_same_place_is_another_coder(tiny: Config, tmp_path: Path, contents) -> None:
    """As another text in a corpus's place is: refused, and redone where that is asked for."""
    spec = CoderSpec("transcoder", "topk", 10, 2, False, 16, 16)
    first = made(tmp_path / "theirs", "sparsify", spec)
    config = loading(tiny, tmp_path / "theirs")
    run(config, tmp_path / "run", target="train")
    second = made(tmp_path / "theirs", "sparsify", spec)
    before = contents(tmp_path / "run")
    with pytest.raises(RunError, match=r"content of coder\.load: .* → .*\(train\)\n.*--force train"):
        run(config, tmp_path / "run", target="train")
    assert contents(tmp_path / "run") == before
    run(config, tmp_path / "run", target="train", force=["train"])
    assert torch.equal(load_coder(tmp_path / "run" / "train" / SITE).W_dec, second.W_dec)
    assert not torch.equal(first.W_dec, second.W_dec)


def test_the_settings_beside_a_file_that_was_named_count_as_well(tiny: Config, tmp_path: Path) -> None:
    made(tmp_path / "theirs", "sparsify", CoderSpec("transcoder", "topk", 10, 2, False, 16, 16))
    config = loading(tiny, tmp_path / "theirs" / "sae.safetensors")
    run(config, tmp_path / "run", target="train")
    cfg = json.loads((tmp_path / "theirs" / "cfg.json").read_text())
    (tmp_path / "theirs" / "cfg.json").write_text(json.dumps(cfg | {"k": 3}))
    with pytest.raises(RunError, match=r"content of coder\.load"):
        run(config, tmp_path / "run", target="train")


def test_a_coder_that_has_gone_is_missed_only_where_it_is_read_anew(tiny: Config, tmp_path: Path, contents) -> None:
    made(tmp_path / "theirs", "sparsify", CoderSpec("transcoder", "topk", 10, 2, False, 16, 16))
    run(loading(tiny, tmp_path / "theirs"), tmp_path / "run", target="train")
    (tmp_path / "theirs").rename(tmp_path / "away")
    stored, before = stored_config(tmp_path / "run"), contents(tmp_path / "run")
    warned: list[str] = []
    run(stored, tmp_path / "run", target="train", progress=Progress(warn=warned.append))
    assert len(warned) == 1 and "coder.load is gone" in warned[0] and "theirs" in warned[0]
    with pytest.raises(CoderError, match=r"theirs is not there"):
        run(stored, tmp_path / "run", target="train", force=["corpus"])
    with pytest.raises(CoderError, match=r"other is not there"):
        run(loading(tiny, tmp_path / "other"), tmp_path / "run", target="train")
    assert contents(tmp_path / "run") == before


def test_a_coder_that_was_named_from_where_one_stood_may_go(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept by its absolute path, whether it is there or not."""
    home = tmp_path / "home"
    made(home / "theirs", "sparsify", TOPK)
    monkeypatch.chdir(home)
    typed = loading(tiny, Path("theirs"))
    run(typed, "run", target="train")
    shutil.rmtree("theirs")
    [said] = warnings_of(typed, Path("run"))
    assert "coder.load is gone" in said
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CoderError, match=r"theirs is not there"):
        run(typed, "home/run", target="train")
    assert stored_config(home / "run").coder.load == str(home / "theirs")


def test_a_run_that_has_no_coder_yet_is_told(tiny: Config, finished: Path, llama_folder: Path, tmp_path: Path) -> None:
    """Not so a language model's folder, though it has a config.json as well."""
    run(tiny, tmp_path / "theirs", target="corpus")
    yet = r"theirs has no coder yet; train one with: plainspoken train \S+theirs"
    for site in (None, "gpt_neox.layers.*.mlp"):
        with pytest.raises(UsageError, match=yet):
            run(loading(tiny, tmp_path / "theirs", site), tmp_path / "run")
    (tmp_path / "theirs" / "train" / SITE).mkdir(parents=True)  # as a training leaves it that was killed
    with pytest.raises(UsageError, match=yet):
        run(loading(tiny, tmp_path / "theirs"), tmp_path / "run")
    with pytest.raises(UsageError, match=yet):
        run(loading(tiny, tmp_path / "theirs"), Path(shutil.copytree(finished, tmp_path / "old")))
    with pytest.raises(CoderError, match="holds no coder in any format"):
        run(loading(tiny, llama_folder), tmp_path / "run")


def test_one_more_site_leaves_the_coder_of_the_first_where_it_is(tiny: Config, tmp_path: Path) -> None:
    spec = CoderSpec("transcoder", "topk", 10, 2, False, 16, 16)
    for layer in (0, 1):
        made(tmp_path / "theirs" / f"layers.{layer}.mlp", "sparsify", spec)
    run(loading(tiny, tmp_path / "theirs"), tmp_path / "run", target="train")
    first = (tmp_path / "run" / "train" / SITE / "manifest.json").read_bytes()
    run(loading(tiny, tmp_path / "theirs", site="gpt_neox.layers.*.mlp"), tmp_path / "run", target="train")
    assert (tmp_path / "run" / "train" / SITE / "manifest.json").read_bytes() == first
