"""Gemma Scope's files, of both releases, give here what their definition says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from checkpoints_made import D_IN, D_OUT, LATENTS, Tree, drawn, gives, inputs, wide, write_json
from plainspoken.coders import load_any
from plainspoken.errors import CoderError
from plainspoken.types import Site

IN = "model.layers.5.pre_feedforward_layernorm.output"
OUT = "model.layers.5.post_feedforward_layernorm.output"


def oracle(t: Tree, x: Tensor) -> Tensor:
    pre = x @ t["W_enc"] + t["b_enc"]
    return pre.relu() * (pre > t["threshold"]) @ t["W_dec"] + t["b_dec"]


def drawn_one(d_out: int = D_IN) -> Tree:
    return drawn(W_enc=(D_IN, LATENTS), b_enc=(LATENTS,), W_dec=(LATENTS, d_out), b_dec=(d_out,), threshold=(LATENTS,))


@pytest.mark.parametrize("letter", ["w", "W"])
@pytest.mark.parametrize(
    ("repository", "kind"), [("gemma-scope-2b-pt-res", "sae"), ("gemma-scope-2b-pt-transcoders", "transcoder")]
)
def test_the_first(tmp_path: Path, letter: str, repository: str, kind: str) -> None:
    folder = tmp_path / repository / "layer_5" / "width_16k" / "average_l0_70"
    folder.mkdir(parents=True)
    tensors = drawn_one()
    arrays: dict[str, Any] = {n.replace("W", letter): tensor.numpy() for n, tensor in tensors.items()}
    np.savez(folder / "params.npz", **arrays)
    for path in (folder, folder / "params.npz"):
        coder, site, name = gives(path, inputs(), lambda x: oracle(wide(tensors), x))
        assert (coder.spec.kind, site.module, name) == (kind, "average_l0_70", "gemma_scope")


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    """numpy keeps those as pickles."""
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in drawn_one().items()}
    np.savez(tmp_path / "params.npz", **{**arrays, "b_enc": np.array([Path, Path])})
    with pytest.raises(CoderError, match=r"params\.npz is truncated or no \.npz of plain numbers"):
        load_any(tmp_path)


def made_second(folder: Path, d_out: int, skip: bool, **config: Any) -> Tree:
    t = drawn_one(d_out) | (drawn(affine_skip_connection=(D_IN, d_out)) if skip else {})
    base = {"architecture": "jump_relu", "model_name": "gemma-v3-1b", "l0": 10, "width": LATENTS}
    write_json(folder / "config.json", {**base, **config})
    save_file({n.replace("W_", "w_"): tensor for n, tensor in t.items()}, folder / "params.safetensors")
    return wide(t)


@pytest.mark.parametrize("out", [{}, {"hf_hook_point_out": "model.layers.5.output"}])
def test_an_sae_of_the_second(tmp_path: Path, out: dict[str, str]) -> None:
    t = made_second(tmp_path, D_IN, False, hf_hook_point_in="model.layers.5.output", **out)
    _, site, name = gives(tmp_path, inputs(), lambda x: oracle(t, x))
    assert (site, name) == (Site("model.layers.5", "resid", D_IN, D_IN), "gemma_scope_2")


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("d_out", [D_IN, D_OUT])
def test_a_transcoder_of_the_second(tmp_path: Path, skip: bool, d_out: int) -> None:
    t = made_second(tmp_path, d_out, skip, hf_hook_point_in=IN, hf_hook_point_out=OUT, affine_connection=skip)
    skipped = t.get("affine_skip_connection", torch.zeros(D_IN, d_out, dtype=torch.float64))
    coder, site, _ = gives(tmp_path, inputs(), lambda x: oracle(t, x) + x @ skipped)
    assert (coder.spec.kind, coder.spec.skip) == ("transcoder", skip)
    assert site == Site(IN.removesuffix(".output"), "mlp", D_IN, d_out)


def test_a_cross_layer_transcoder_is_refused(tmp_path: Path) -> None:
    """Its decoder writes to every later layer."""
    made_second(tmp_path, D_IN, False, hf_hook_point_in=IN, hf_hook_point_out=OUT)
    held = {n.replace("W_", "w_"): tensor for n, tensor in drawn_one().items()}
    save_file({**held, "w_dec": torch.randn(LATENTS, 3, D_IN)}, tmp_path / "params.safetensors")
    with pytest.raises(CoderError, match=r"'w_dec' has shape \[14, 3, 6\], where 2 sizes are called for"):
        load_any(tmp_path)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    made_second(tmp_path, D_IN, False, hf_hook_point_in=IN, architecture="topk")
    with pytest.raises(CoderError, match=r"config\.json: architecture is topk; what is read: jump_relu"):
        load_any(tmp_path)
