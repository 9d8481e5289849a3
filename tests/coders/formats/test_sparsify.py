"""sparsify's files give here what its definition says, and ours come back from its layout."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from checkpoints_made import D_IN, LATENTS, K, Tree, drawn, gives, inputs, largest, wide, write_json
from plainspoken.coders import FORMATS, Coder, CoderSpec, load_any
from plainspoken.errors import CoderError
from plainspoken.types import Site

MODULE = "layers.3.mlp"


def made(folder: Path, skip: bool = False, **cfg: Any) -> Tree:
    tensors = drawn(
        **{"encoder.weight": (LATENTS, D_IN), "encoder.bias": (LATENTS,), "W_dec": (LATENTS, D_IN), "b_dec": (D_IN,)}
    )
    tensors |= drawn(W_skip=(D_IN, D_IN)) if skip else {}
    base = {"d_in": D_IN, "k": K, "num_latents": LATENTS, "expansion_factor": 32, "normalize_decoder": True}
    write_json(folder / "cfg.json", {**base, "skip_connection": skip, **cfg})
    save_file(tensors, folder / "sae.safetensors")
    return wide(tensors)


def oracle(t: Tree, x: Tensor, subtracts: bool) -> Tensor:
    seen = x - t["b_dec"] if subtracts else x
    z = largest(seen @ t["encoder.weight"].T + t["encoder.bias"], K)
    return z @ t["W_dec"] + t["b_dec"] + (x @ t["W_skip"].T if "W_skip" in t else 0.0)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("transcode", [False, True, None], ids=["sae", "transcoder", "january-2025"])
def test_its_output_is_its_definition(tmp_path: Path, skip: bool, transcode: bool | None) -> None:
    folder = tmp_path / MODULE
    said = {} if transcode is None else {"transcode": transcode, "activation": "topk", "multi_topk": False}
    t = made(folder, skip, **said)
    coder, site, name = gives(folder, inputs(), lambda x: oracle(t, x, subtracts=not transcode))
    kind = "transcoder" if transcode or skip else "sae"
    assert coder.spec == CoderSpec(kind, "topk", LATENTS, K, skip, D_IN, D_IN)
    assert (site.module, name) == (MODULE, "sparsify")
    assert site.kind == ("mlp" if kind == "transcoder" else "resid")


def test_the_width_may_be_a_factor(tmp_path: Path) -> None:
    tensors = drawn(**{"encoder.weight": (12, 6), "encoder.bias": (12,), "W_dec": (12, 6), "b_dec": (6,)})
    write_json(tmp_path / "cfg.json", {"d_in": 6, "k": 2, "num_latents": 0, "expansion_factor": 2, "transcode": True})
    save_file(tensors, tmp_path / "sae.safetensors")
    assert load_any(tmp_path)[0].spec.latents == 12


@pytest.mark.parametrize("kind, skip", [("sae", False), ("transcoder", False), ("transcoder", True)])
def test_round_trip(tmp_path: Path, kind: Any, skip: bool) -> None:
    coder, x = Coder(CoderSpec(kind, "topk", LATENTS, K, skip, D_IN, D_IN)), inputs()
    with torch.no_grad():
        for tensor in coder.state_dict().values():
            tensor.normal_()
    site = Site("model.layers.3.mlp", "mlp" if kind == "transcoder" else "resid", D_IN, D_IN)
    save = FORMATS["sparsify"].save
    assert save is not None
    save(tmp_path / "new", coder, site)
    back, found, _ = gives(tmp_path / "new", x, coder(x).double().detach())
    assert (back.spec, found) == (coder.spec, site)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (CoderSpec("transcoder", "relu", 8, None, False, 4, 4), "topk coders only, .* relu"),
        (CoderSpec("transcoder", "topk", 8, 2, False, 4, 5), r"one width, .* 4 -> 5"),
    ],
)
def test_what_it_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path, spec: CoderSpec, words: str) -> None:
    save = FORMATS["sparsify"].save
    assert save is not None
    with pytest.raises(CoderError, match=words):
        save(tmp_path / "new", Coder(spec), Site("m", "mlp", spec.d_in, spec.d_out))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("cfg, words", [({"activation": "groupmax"}, "groupmax"), ({"signed": True}, "signed")])
def test_another_activation_is_refused(tmp_path: Path, cfg: dict[str, Any], words: str) -> None:
    made(tmp_path, **cfg)
    with pytest.raises(CoderError, match=rf"cfg\.json: the activation is {words}, which is none of ours"):
        load_any(tmp_path)
