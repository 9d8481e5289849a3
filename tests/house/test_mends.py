"""Errors that a user may meet end with what to do about them."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from plainspoken.activations import ActivationStore, StoredVectors
from plainspoken.coders import CoderSpec
from plainspoken.config import TrainConfig
from plainspoken.errors import PlainspokenError
from plainspoken.latents.paired import as_levels
from plainspoken.lm import LanguageModel, resolve_sites, splice
from plainspoken.pipeline import STAGES
from plainspoken.pipeline.machine import content_hash
from plainspoken.pipeline.shelves import load_tensors
from plainspoken.store import Manifest, StageFolder, read_json, write_json
from plainspoken.store.atomic import storage_error
from plainspoken.train import train_coders
from plainspoken.types import Rows


def broken(path: Path) -> Path:
    path.write_bytes(b'{"a": ')
    return path


def refuse_storage(path: Path) -> None:
    raise storage_error(OSError(errno.EIO, "Input/output error", str(path)), path)


def load_other_manifest(path: Path) -> None:
    write_json(path / "m", {"stage": "train"})
    Manifest.load(path / "m")


def train_on_another_site(path: Path) -> None:
    vectors = torch.zeros(4, 3)
    spec = CoderSpec("transcoder", "topk", 8, 2, False, 5, 3)
    rows = Rows(np.zeros((4, 1), np.int32), np.ones((4, 1), bool), np.zeros(4, np.int32), ("made",), "fit")
    source = StoredVectors({"site": ActivationStore(vectors, vectors, "")}, rows, batch=2, seed=0)
    train_coders(source, {"site": spec}, TrainConfig(), {"site": path}, 0)


@pytest.mark.parametrize(
    ("fails", "what", "mend"),
    [
        (refuse_storage, "Input/output error", "--out"),
        (lambda path: read_json(path / "absent.json"), r"absent\.json is missing", "--force"),
        (lambda path: read_json(broken(path / "b.json")), r"b\.json is truncated", "--force"),
        (load_other_manifest, "its fields differ", "--force"),
        (lambda path: StageFolder(path).verify(), "not finished", "plainspoken run"),
        (lambda path: content_hash(STAGES[0], StageFolder(path)), "not finished", "plainspoken corpus"),
        (lambda path: load_tensors(path / "absent.safetensors"), "is missing", "--force"),
        (lambda path: load_tensors(broken(path / "b.safetensors")), "is truncated", "--force"),
        (lambda path: as_levels(np.array([-1.0])), "a level that is negative", "--force simulate"),
        (train_on_another_site, "widths 3 -> 3 cannot fit", "give the spec"),
    ],
)
def test_what_went_wrong_is_told_and_then_the_mend(
    tmp_path: Path, fails: Callable[[Path], object], what: str, mend: str
) -> None:
    with pytest.raises(PlainspokenError, match=f"(?s){what}.*{mend}"):
        fails(tmp_path)


def test_a_splice_of_another_shape_says_which_shape_is_wanted(neox: LanguageModel) -> None:
    [site] = resolve_sites(neox, "gpt_neox.layers.0.mlp")
    with (
        pytest.raises(PlainspokenError, match=r"shape \(1, 2\) for an output of \(1, 2, 16\); return one of .* shape"),
        splice(neox, {site: lambda x, y: y[..., 0]}),
    ):
        neox.model(torch.tensor([[1, 2]]))
