"""A stored coder comes back by its output, and a damaged one is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from plainspoken.coders import FORMATS, Coder, CoderSpec, load_coder, save_coder
from plainspoken.coders.formats.own import HEADER, WEIGHTS
from plainspoken.errors import CoderError
from plainspoken.types import Site

SITE = Site("model.layers.0.mlp", "mlp", 4, 5)


@pytest.fixture(params=[False, True], ids=["plain", "skip"])
def coder(request: pytest.FixtureRequest) -> Coder:
    coder = Coder(CoderSpec("transcoder", "topk", 12, 3, request.param, 4, 5))
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.normal_()
    return coder


def test_round_trip_by_forward_output(coder: Coder, tmp_path: Path) -> None:
    x = torch.randn(20, 4)
    save_coder(tmp_path / "new", coder, SITE, {"fvu": 0.1})
    loaded = load_coder(tmp_path / "new")
    assert torch.equal(loaded(x), coder(x))
    assert loaded.spec == coder.spec
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert json.loads((tmp_path / "new" / HEADER).read_text())["extra"] == {"fvu": 0.1}


def test_the_registry_recognises_its_own(coder: Coder, tmp_path: Path) -> None:
    save_coder(tmp_path, coder, SITE)
    [own] = [form for form in FORMATS.values() if form.recognises(tmp_path)]
    loaded, site = own.load(tmp_path)
    assert site == SITE
    assert torch.equal(loaded.W_dec, coder.W_dec)


def test_truncated_anywhere_is_refused(coder: Coder, tmp_path: Path) -> None:
    save_coder(tmp_path, coder, SITE)
    for name in (WEIGHTS, HEADER):
        whole = (tmp_path / name).read_bytes()
        for length in sorted({0, 1, 7, 8, 9, len(whole) // 3, len(whole) - 3}):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(CoderError, match=f"{name} is truncated"):
                load_coder(tmp_path)
        (tmp_path / name).write_bytes(whole)
    load_coder(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, HEADER])
def test_an_absent_file_is_named(coder: Coder, tmp_path: Path, name: str) -> None:
    save_coder(tmp_path, coder, SITE)
    (tmp_path / name).unlink()
    with pytest.raises(CoderError, match=f"{name} is absent"):
        load_coder(tmp_path)


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    held = {**load_file(folder / WEIGHTS), **tensors}
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, folder / WEIGHTS)


def test_tensors_that_do_not_fit_are_named(coder: Coder, tmp_path: Path) -> None:
    def damaged(words: str, **tensors: torch.Tensor | None) -> None:
        save_coder(tmp_path, coder, SITE)
        change(tmp_path, **tensors)
        with pytest.raises(CoderError, match=words):
            load_coder(tmp_path)

    damaged("lacks the tensor 'W_dec'", W_dec=None)
    damaged("holds the tensor 'threshold'", threshold=torch.zeros(1))
    damaged(r"'W_enc' has shape \[4, 12\], but coder.json calls for \[12, 4\]", W_enc=torch.zeros(4, 12))
    damaged("'b_enc' holds NaN or infinity", b_enc=torch.full((12,), float("nan")))


def test_a_header_that_is_not_ours_is_refused(coder: Coder, tmp_path: Path) -> None:
    save_coder(tmp_path, coder, SITE)
    header = json.loads((tmp_path / HEADER).read_text())
    for changes in ({"format": "other 3"}, {"spec": {**header["spec"], "k": 99}}, {"spec": {}}, {"site": None}):
        (tmp_path / HEADER).write_text(json.dumps({**header, **changes}))
        with pytest.raises(CoderError, match=HEADER) as told:
            load_coder(tmp_path)
        assert "\n" not in str(told.value) and "pydantic" not in str(told.value)
