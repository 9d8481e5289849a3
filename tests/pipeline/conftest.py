"""A whole run on the two-layer random model, made once; tests work on copies of it."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from explain_scene import TEMPLATE
from plainspoken.config import Config, load_config

SITE = "gpt_neox.layers.0.mlp"
WHO = ("Lily", "Tom", "the cat", "a small dog", "her friend", "my brother")
DID = ("saw", "loved", "found", "lost", "painted", "hid")
WHAT = ("the red ball", "a blue car", "some cake", "the old tree", "a big house", "12 apples")
WHERE = ("in the park", "at home", "by the sea", "under a bed", "on Monday")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred short texts, one a line of JSON."""
    draw = random.Random(0)
    lines = []
    for i in range(100):
        said = [f"{draw.choice(WHO)} {draw.choice(DID)} {draw.choice(WHAT)} {draw.choice(WHERE)}." for _ in range(8)]
        lines.append(json.dumps({"text": f"Story {i}. " + " ".join(said)}))
    path = tmp_path_factory.mktemp("corpus") / "stories.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def tiny(neox_folder: Path, corpus: Path) -> Config:
    """Settings with which a run takes a few seconds."""
    return load_config(
        lm__name=str(neox_folder), lm__device="cpu", corpus__source=str(corpus), site=SITE, coder__latents=12,
        coder__k=3, train__tokens=4000, train__batch=256, train__checkpoint_every=4, train__warm_up=4,
        train__lr_scale=1.0, evaluate__fractions=[0.5, 1.0], evaluate__draws=2, evaluate__bootstrap=100,
        explain__words=20,
    )  # fmt: skip


@pytest.fixture(scope="session")
def finished(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    from plainspoken.pipeline import run

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run(tiny, folder)
    return folder


@pytest.fixture(scope="session")
def both_layers(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a coder in each of the two layers, calibrated; not to be changed."""
    from plainspoken.pipeline import run

    folder = tmp_path_factory.mktemp("runs") / "both"
    run(replace(tiny, site="gpt_neox.layers.*.mlp"), folder, target="calibrate")
    return folder


@pytest.fixture(scope="session")
def two_coders(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a coder in each of the two layers and nothing beyond; not to be changed."""
    from plainspoken.pipeline import run

    folder = tmp_path_factory.mktemp("coders") / "run"
    run(replace(tiny, site="gpt_neox.layers.*.mlp"), folder, target="train")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed at will."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, by path."""

    def read(root: Path) -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    return read


@pytest.fixture(scope="session")
def assistant(neox_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's folder with a chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(neox_folder)
    tokenizer.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("assistant") / "tokenizer"
    tokenizer.save_pretrained(folder)
    return folder
