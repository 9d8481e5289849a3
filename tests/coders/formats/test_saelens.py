"""SAELens's files give here what its definition says, and ours come back from its layout."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from checkpoints_made import D_IN, D_OUT, LATENTS, K, Tree, drawn, gives, inputs, largest, wide, write_json
from plainspoken.coders import FORMATS, Coder, CoderSpec, load_any
from plainspoken.errors import CoderError
from plainspoken.types import Site

VERSION = {"sae_lens_version": "6.54.12"}


def made(folder: Path, architecture: str, d_out: int = D_IN, more: tuple[str, ...] = (), **cfg: Any) -> Tree:
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (D_IN, LATENTS), "W_dec": (LATENTS, d_out), "b_dec": (d_out,)}
    shapes |= {"W_skip": (d_out, D_IN)} if architecture.endswith("skip_transcoder") else {}
    shapes |= {name: () if name == "topk_threshold" else (LATENTS,) for name in more or ("b_enc",)}
    tensors = drawn(**shapes)
    base = {"architecture": architecture, "d_in": D_IN, "d_sae": LATENTS, "dtype": "float32", "device": "cpu"}
    base |= {"apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none"}
    base |= {"d_out": d_out} if "transcoder" in architecture else {}
    write_json(folder / "cfg.json", {**base, "metadata": {**VERSION, "hook_name": "blocks.3.hook_mlp_out"}, **cfg})
    save_file(tensors, folder / "sae_weights.safetensors")
    return wide(tensors)


def pre(t: Tree, x: Tensor, subtracts: bool) -> Tensor:
    return (x - t["b_dec"] if subtracts else x) @ t["W_enc"] + t["b_enc"]


@pytest.mark.parametrize("subtracts", [False, True])
def test_standard(tmp_path: Path, subtracts: bool) -> None:
    t = made(tmp_path, "standard", apply_b_dec_to_input=subtracts)
    coder, site, name = gives(tmp_path, inputs(), lambda x: pre(t, x, subtracts).relu() @ t["W_dec"] + t["b_dec"])
    assert coder.spec == CoderSpec("sae", "relu", LATENTS, None, False, D_IN, D_IN)
    assert (site, name) == (Site("blocks.3.hook_mlp_out", "resid", D_IN, D_IN), "saelens")


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("subtracts", [False, True])
def test_topk(tmp_path: Path, rescale: bool, subtracts: bool) -> None:
    t = made(tmp_path, "topk", k=K, rescale_acts_by_decoder_norm=rescale, apply_b_dec_to_input=subtracts)
    norm = t["W_dec"].norm(dim=1) if rescale else torch.ones(LATENTS, dtype=torch.float64)

    def wanted(x: Tensor) -> Tensor:
        return largest(pre(t, x, subtracts) * norm, K) / norm @ t["W_dec"] + t["b_dec"]

    assert gives(tmp_path, inputs(), wanted)[0].spec.k == K


def test_a_decoder_row_of_zeros_never_fires(tmp_path: Path) -> None:
    made(tmp_path, "topk", k=LATENTS, rescale_acts_by_decoder_norm=True)
    tensors = drawn(W_enc=(D_IN, LATENTS), b_enc=(LATENTS,), W_dec=(LATENTS, D_IN), b_dec=(D_IN,))
    tensors["W_dec"][5] = 0.0
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    coder = load_any(tmp_path)[0]
    assert torch.isfinite(coder(inputs())).all()
    assert not coder.dense(coder.encode(inputs()))[:, 5].any()


def test_jumprelu(tmp_path: Path) -> None:
    t = made(tmp_path, "jumprelu", more=("b_enc", "threshold"))

    def wanted(x: Tensor) -> Tensor:
        z = pre(t, x, False)
        return z.relu() * (z > t["threshold"]) @ t["W_dec"] + t["b_dec"]

    assert gives(tmp_path, inputs(), wanted)[0].spec.activation == "jump_relu"


@pytest.mark.parametrize("subtracts", [False, True])
def test_gated(tmp_path: Path, subtracts: bool) -> None:
    t = made(tmp_path, "gated", more=("b_gate", "b_mag", "r_mag"), apply_b_dec_to_input=subtracts)

    def wanted(x: Tensor) -> Tensor:
        wx = (x - t["b_dec"] if subtracts else x) @ t["W_enc"]
        magnitude = (wx * t["r_mag"].exp() + t["b_mag"]).relu()
        return magnitude * (wx + t["b_gate"] > 0) @ t["W_dec"] + t["b_dec"]

    gives(tmp_path, inputs(), wanted)


def test_a_fold_that_leaves_float32_is_told(tmp_path: Path) -> None:
    made(tmp_path, "gated", more=("b_gate", "b_mag", "r_mag"))
    held = load_file(tmp_path / "sae_weights.safetensors")
    save_file({**held, "r_mag": torch.full((LATENTS,), 200.0)}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(CoderError, match="too large for float32, in W_enc"):
        load_any(tmp_path)


@pytest.mark.parametrize("jump", ["", "jumprelu_"])
@pytest.mark.parametrize("skip", ["", "skip_"])
def test_transcoders(tmp_path: Path, jump: str, skip: str) -> None:
    t = made(tmp_path, f"{jump}{skip}transcoder", D_OUT, ("b_enc", "threshold") if jump else ())

    def wanted(x: Tensor) -> Tensor:
        z = pre(t, x, False)
        z = z.relu() * (z > t["threshold"]) if jump else z.relu()
        return z @ t["W_dec"] + t["b_dec"] + (x @ t["W_skip"].T if skip else 0.0)

    coder, site, _ = gives(tmp_path, inputs(), wanted)
    assert (coder.spec.skip, coder.spec.d_out, site.kind) == (bool(skip), D_OUT, "mlp")


def test_the_factor_of_a_training_under_way_is_folded(tmp_path: Path) -> None:
    t = made(tmp_path, "standard", apply_b_dec_to_input=True, normalize_activations="expected_average_only_in")
    for scaler in (None, {"scaling_factor": None}, {"scaling_factor": float("nan")}):
        if scaler is not None:
            write_json(tmp_path / "activation_scaler.json", scaler)
        with pytest.raises(CoderError, match=r"there is no activation_scaler\.json with the factor; fold it there"):
            load_any(tmp_path)
    write_json(tmp_path / "activation_scaler.json", {"scaling_factor": 0.37, "has_whitening": False})
    gives(tmp_path, inputs(), lambda x: (pre(t, x * 0.37, True).relu() @ t["W_dec"] + t["b_dec"]) / 0.37)


def test_a_batchtopk_of_a_training_under_way_has_its_threshold(tmp_path: Path) -> None:
    more = ("b_enc", "topk_threshold")
    t = made(tmp_path, "batchtopk", more=more, k=4.0, rescale_acts_by_decoder_norm=True, metadata={**VERSION})
    norm = t["W_dec"].norm(dim=1)

    def wanted(x: Tensor) -> Tensor:
        z = (pre(t, x, False) * norm).relu()
        return z * (z > t["topk_threshold"]) / norm @ t["W_dec"] + t["b_dec"]

    spec = gives(tmp_path, inputs(), wanted)[0].spec
    assert (spec.activation, spec.k) == ("batch_topk", 4)


def test_before_version_6(tmp_path: Path) -> None:
    cfg = {"d_in": D_IN, "d_sae": LATENTS, "hook_point": "blocks.3.hook_resid_pre", "activation_fn_str": "topk"}
    t = made(tmp_path, "standard")
    write_json(tmp_path / "cfg.json", {**cfg, "activation_fn_kwargs": {"k": K}, "normalize_activations": None})
    coder, site, _ = gives(
        tmp_path, inputs(), lambda x: largest(pre(t, x, subtracts=True), K) @ t["W_dec"] + t["b_dec"]
    )
    assert (coder.spec.activation, site.module) == ("topk", "blocks.3.hook_resid_pre")


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"architecture": "temporal"}, "architecture is temporal, which is no coder of ours; .* standard"),
        ({"normalize_activations": "layer_norm"}, "is layer_norm, which differs from input to input"),
        ({"reshape_activations": "hook_z"}, "heads of an attention"),
        ({"architecture": "transcoder", "apply_b_dec_to_input": True}, "moved by its output's bias"),
        ({"metadata": None, "activation_fn": "tanh-relu"}, "activation_fn is tanh-relu"),
        ({"metadata": None, "hook_name": "blocks.3.attn.hook_z", "reshape_activations": None}, "heads of an attention"),
        ({"d_in": "wide"}, "d_in is 'wide': .*integer"),
        ({"d_in": None, "metadata": [1]}, "d_in is 'None'"),
        *(
            ({"architecture": "topk", "k": k}, f"k is {k:g}, where a number above 0")
            for k in (0, -5, math.nan, math.inf)
        ),
        (
            {"metadata": None, "activation_fn": "topk", "activation_fn_kwargs": {"k": "many"}},
            r"activation_fn_kwargs\.k is 'many'",
        ),
    ],
)
def test_what_is_no_coder_of_ours_is_refused(tmp_path: Path, cfg: dict[str, Any], words: str) -> None:
    made(tmp_path, "standard")
    held = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**held, **cfg}))  # NaN, too, as Python's json writes it
    with pytest.raises(CoderError, match=rf"cfg\.json.*{words}"):
        load_any(tmp_path)


HELD = [
    CoderSpec("sae", "relu", LATENTS, None, False, D_IN, D_IN),
    CoderSpec("sae", "topk", LATENTS, K, False, D_IN, D_IN),
    CoderSpec("sae", "jump_relu", LATENTS, None, False, D_IN, D_IN),
    CoderSpec("sae", "batch_topk", LATENTS, K, False, D_IN, D_IN),
    CoderSpec("transcoder", "relu", LATENTS, None, False, D_IN, D_OUT),
    CoderSpec("transcoder", "relu", LATENTS, None, True, D_IN, D_OUT),
    CoderSpec("transcoder", "jump_relu", LATENTS, None, True, D_IN, D_OUT),
    CoderSpec("transcoder", "batch_topk", LATENTS, None, False, D_IN, D_OUT),
    CoderSpec("sae", "relu", LATENTS, K, False, D_IN, D_IN),
    CoderSpec("transcoder", "relu", LATENTS, K, True, D_IN, D_OUT),
    CoderSpec("transcoder", "jump_relu", LATENTS, K, False, D_IN, D_OUT),
]


@pytest.mark.parametrize("spec", HELD, ids=lambda spec: f"{spec.kind}-{spec.activation}-{spec.skip}-{spec.k}")
@pytest.mark.parametrize("module", ["model.layers.3.mlp", "blocks.3.hook_resid_post"])
def test_round_trip(tmp_path: Path, spec: CoderSpec, module: str) -> None:
    coder, x = Coder(spec), inputs()
    with torch.no_grad():
        for tensor in coder.state_dict().values():
            tensor.normal_()
    site = Site(module, "mlp" if spec.kind == "transcoder" else "resid", spec.d_in, spec.d_out)
    save = FORMATS["saelens"].save
    assert save is not None
    save(tmp_path / "new", coder, site)
    back, found, _ = gives(tmp_path / "new", x, coder(x).double().detach())
    assert (back.spec, found) == (spec, site)


def test_a_topk_transcoder_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    coder = Coder(CoderSpec("transcoder", "topk", LATENTS, K, False, D_IN, D_OUT))
    save = FORMATS["saelens"].save
    assert save is not None
    with pytest.raises(CoderError, match=r"knows no topk transcoder.*sparsify"):
        save(tmp_path / "new", coder, Site("m", "mlp", D_IN, D_OUT))
    assert not (tmp_path / "new").exists()
