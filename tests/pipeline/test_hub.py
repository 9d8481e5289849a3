"""A coder by its name on the hub: from a cache made by hand, offline; and from a hub on loopback, asked for no more."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch

import zygote
from hub_made import COMMIT, Hub, cached, serve_hub
from plainspoken.coders import FORMATS, Coder, CoderSpec, load_coder
from plainspoken.config import Config, config_tree
from plainspoken.errors import CoderError, RunError
from plainspoken.pipeline import Progress, run
from plainspoken.pipeline.hub import HubName, hub_name
from plainspoken.pipeline.stored import stored_config
from plainspoken.store import Manifest
from plainspoken.types import Site

NAME = "Somebody/skip-transcoder-tiny"
SITE, RESID = "gpt_neox.layers.0.mlp", "gpt_neox.layers.0"
TRANSCODER, SAE = (
    CoderSpec(kind, "topk", 10, 2, skip, 16, 16) for kind, skip in (("transcoder", True), ("sae", False))
)


def checkpoint(folder: Path, *names: str) -> Path:
    """sparsify's layout: a folder a hookpoint, an sae where it is no FFN's."""
    for name in names:
        coder = Coder(TRANSCODER if name.endswith("mlp") else SAE)
        with torch.no_grad():
            for parameter in coder.parameters():
                parameter.normal_()
        save = FORMATS["sparsify"].save
        assert save is not None
        save(folder / name, coder, Site(name, "mlp" if name.endswith("mlp") else "resid", 16, 16))
    return folder


def named(config: Config, name: str, site: str = SITE) -> Config:
    return dataclasses.replace(config, site=site, coder=dataclasses.replace(config.coder, load=name))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in the place of this machine's; the tests are offline (`conftest.py`)."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("A-b/c.d_1", HubName("A-b/c.d_1", "", None)),
        ("A/b/layers.6.mlp", HubName("A/b", "layers.6.mlp", None)),
        ("A/b/some/layers.6@refs/pr/1", HubName("A/b", "some/layers.6", "refs/pr/1")),
        ("A/b@2046768", HubName("A/b", "", "2046768")),
        *((path, None) for path in ("coders", "./a/b", "../a/b", "~/a/b", "/a/b", "a/../b", "a//b", "a/b/", "a b/c")),
    ],
)
def test_what_is_a_name_on_the_hub(given: str, meant: HubName | None) -> None:
    assert hub_name(given) == meant
    assert meant is None or str(meant) == given


def test_a_run_takes_its_coders_by_their_name_from_the_cache(cache: Path, tiny: Config, tmp_path: Path) -> None:
    """One for each site, in sparsify's layout; the manifest has their content and the commit that they are of."""
    cached(cache, NAME, checkpoint(tmp_path / "theirs", "layers.0.mlp", "layers.0", "layers.1.mlp"))
    run(named(tiny, NAME, f"{SITE}, {RESID}"), tmp_path / "run", target="train")
    for site, folder in ((SITE, "layers.0.mlp"), (RESID, "layers.0")):
        kept = tmp_path / "run" / "train" / site
        theirs = FORMATS["sparsify"].load(tmp_path / "theirs" / folder)[0]
        assert torch.equal(load_coder(kept).W_dec, theirs.W_dec)
        manifest = Manifest.load(kept / "manifest.json")
        assert manifest.counts["loaded"]["name"] == f"{NAME}/{folder}@{COMMIT}"
        assert manifest.config["coder.load"] == NAME
        assert manifest.counts["loaded"]["sha256"].startswith(manifest.config["content of coder.load"])
    assert stored_config(tmp_path / "run").coder.load == NAME
    news: list[str] = []
    run(stored_config(tmp_path / "run"), tmp_path / "run", target="train", progress=Progress(say=news.append))
    assert news[-1] == "train: done before, skipped"


def test_a_folder_and_a_revision_may_be_named(cache: Path, tiny: Config, tmp_path: Path) -> None:
    for commit, ref in (("a" * 40, "main"), ("b" * 40, "v2")):
        cached(cache, NAME, checkpoint(tmp_path / ref, "wide/layers.0.mlp"), commit, ref)
    for name, ref, commit in (
        (f"{NAME}/wide", "main", "a" * 40),
        (f"{NAME}/wide/layers.0.mlp", "main", "a" * 40),
        (f"{NAME}/wide@v2", "v2", "b" * 40),
        (f"{NAME}/wide@{'b' * 40}", "v2", "b" * 40),
    ):
        out = tmp_path / f"run {name.replace('/', ' ')}"
        run(named(tiny, name), out, target="train")
        theirs = FORMATS["sparsify"].load(tmp_path / ref / "wide" / "layers.0.mlp")[0]
        assert torch.equal(load_coder(out / "train" / SITE).W_enc, theirs.W_enc)
        loaded = Manifest.load(out / "train" / SITE / "manifest.json").counts["loaded"]
        assert loaded["name"] == f"{NAME}/wide/layers.0.mlp@{commit}"


def test_the_same_name_with_other_content_is_another_coder(
    cache: Path, tiny: Config, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    cached(cache, NAME, checkpoint(tmp_path / "one", "layers.0.mlp"))
    run(named(tiny, NAME), tmp_path / "run", target="train")
    cached(cache, NAME, checkpoint(tmp_path / "two", "layers.0.mlp"), "c" * 40)
    before = contents(tmp_path / "run")
    with pytest.raises(RunError, match=r"content of coder\.load: .* → .*\(train\)\n.*--force train"):
        run(named(tiny, NAME), tmp_path / "run", target="train")
    assert contents(tmp_path / "run") == before


def test_a_folder_of_that_name_wins(cache: Path, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(cache, NAME, checkpoint(tmp_path / "theirs", "layers.0.mlp"))
    mine = checkpoint(tmp_path / "here" / NAME, "layers.0.mlp") / "layers.0.mlp"
    monkeypatch.chdir(tmp_path / "here")
    run(named(tiny, NAME), tmp_path / "run", target="train")
    kept = load_coder(tmp_path / "run" / "train" / SITE)
    assert torch.equal(kept.W_dec, FORMATS["sparsify"].load(mine)[0].W_dec)
    assert stored_config(tmp_path / "run").coder.load == str(tmp_path / "here" / NAME)


def test_what_cannot_be_had_is_one_error_with_the_mend(cache: Path, tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(CoderError, match=rf"no {NAME} here, .* not in the cache .*hf download {NAME} --local-dir"):
        run(named(tiny, NAME), tmp_path / "run")
    cached(cache, NAME, checkpoint(tmp_path / "theirs", "layers.1.mlp"))
    with pytest.raises(CoderError, match=rf"{NAME}@{COMMIT} on the hub has no coder for {SITE}, .*layers\.0\.mlp/cfg"):
        run(named(tiny, NAME), tmp_path / "run")
    with pytest.raises(CoderError, match="v7 here"):
        run(named(tiny, f"{NAME}@v7"), tmp_path / "run")
    with pytest.raises(CoderError, match="no coder for"):
        run(named(tiny, f"{NAME}/wide"), tmp_path / "run")
    (tmp_path / "theirs" / "layers.1.mlp" / "sae.safetensors").unlink()
    cached(cache, NAME, tmp_path / "theirs", "d" * 40)
    with pytest.raises(CoderError, match=r"lacks sae\.safetensors"):
        run(named(tiny, NAME, "gpt_neox.layers.1.mlp"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_once_taken_it_may_leave_the_cache(cache: Path, tiny: Config, tmp_path: Path) -> None:
    cached(cache, NAME, checkpoint(tmp_path / "theirs", "layers.0.mlp"))
    run(named(tiny, NAME), tmp_path / "run", target="train")
    cache.rename(tmp_path / "away")
    warned: list[str] = []
    run(named(tiny, NAME), tmp_path / "run", target="train", progress=Progress(warn=warned.append))
    assert len(warned) == 1 and warned[0].startswith("coder.load cannot be had, going on with what")
    with pytest.raises(CoderError, match="cannot be fetched"):
        run(named(tiny, NAME), tmp_path / "run", target="train", force=["train"])


CHILD = """
import json, sys
from pathlib import Path
from plainspoken.config import config_from_tree
from plainspoken.pipeline import run
task = json.loads(sys.stdin.read())
run(config_from_tree(task["config"]), Path(task["folder"]), target="train")
"""


@pytest.mark.slow
def test_from_a_hub_nothing_is_fetched_but_the_coders_files(tiny: Config, tmp_path: Path) -> None:
    """And then, with the hub gone and HF_HUB_OFFLINE, the same run from HF_HOME's cache."""
    theirs = checkpoint(tmp_path / "theirs", "layers.0.mlp", "layers.0", "layers.1.mlp")
    for name in ("optimizer.pt", "layers.0.mlp/state.pt", "layers.0.mlp/sae.pkl", "README.md", "lr_scheduler.pt"):
        (theirs / name).write_bytes(b"no coder")
    task = {"config": config_tree(named(tiny, NAME, f"{SITE}, {RESID}"))}

    def child(folder: str, **more: str) -> None:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", **more}
        given = json.dumps({**task, "folder": str(tmp_path / folder)})
        done = zygote.run(CHILD, env=environment, input=given, capture_output=True)
        assert done.returncode == 0, done.stderr

    with serve_hub(Hub(NAME, theirs)) as hub:
        child("online", HF_HUB_OFFLINE="0", HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
    folders = ("layers.0.mlp", "layers.0")
    assert set(hub.fetched) == {f"{folder}/{file}" for folder in folders for file in ("cfg.json", "sae.safetensors")}
    child("offline", HF_HUB_OFFLINE="1")
    for site in (SITE, RESID):
        one, two = (tmp_path / folder / "train" / site / "coder.safetensors" for folder in ("online", "offline"))
        assert one.read_bytes() == two.read_bytes()
