"""dictionary_learning's files give here what their classes' definitions say."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from checkpoints_made import D_IN, LATENTS, K, Tree, drawn, gives, inputs, largest, wide, write_json
from plainspoken.coders import load_any
from plainspoken.errors import CoderError

LAYERS = {"encoder.weight": (LATENTS, D_IN), "encoder.bias": (LATENTS,), "decoder.weight": (D_IN, LATENTS)}
MATRICES = {"W_enc": (D_IN, LATENTS), "b_enc": (LATENTS,), "W_dec": (LATENTS, D_IN), "b_dec": (D_IN,)}


def above(z: Tensor, threshold: Tensor) -> Tensor:
    return z.relu() * (z > threshold)


def linear(t: Tree, x: Tensor) -> Tensor:
    return x @ t["encoder.weight"].T + t["encoder.bias"]


def gated(t: Tree, x: Tensor) -> Tensor:
    inner = (x - t["decoder_bias"]) @ t["encoder.weight"].T
    z = (inner + t["gate_bias"] > 0) * (t["r_mag"].exp() * inner + t["mag_bias"]).relu()
    return z @ t["decoder.weight"].T + t["decoder_bias"]


def matrices(t: Tree, x: Tensor) -> Tensor:
    return above(x @ t["W_enc"] + t["b_enc"], t["threshold"]) @ t["W_dec"] + t["b_dec"]


CLASSES: dict[str, tuple[str, dict[str, tuple[int, ...]], Callable[[Tree, Tensor], Tensor]]] = {
    "AutoEncoder": (
        "relu",
        {**LAYERS, "bias": (D_IN,)},
        lambda t, x: linear(t, x - t["bias"]).relu() @ t["decoder.weight"].T + t["bias"],
    ),
    "AutoEncoderNew": (
        "relu",
        {**LAYERS, "decoder.bias": (D_IN,)},
        lambda t, x: linear(t, x).relu() @ t["decoder.weight"].T + t["decoder.bias"],
    ),
    "AutoEncoderTopK": (
        "topk",
        {**LAYERS, "b_dec": (D_IN,), "threshold": ()},
        lambda t, x: largest(linear(t, x - t["b_dec"]), K) @ t["decoder.weight"].T + t["b_dec"],
    ),
    "BatchTopKSAE": (
        "batch_topk",
        {**LAYERS, "b_dec": (D_IN,), "threshold": ()},
        lambda t, x: above(linear(t, x - t["b_dec"]), t["threshold"]) @ t["decoder.weight"].T + t["b_dec"],
    ),
    "MatryoshkaBatchTopKSAE": (
        "batch_topk",
        {**MATRICES, "threshold": ()},
        lambda t, x: above((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"], t["threshold"]) @ t["W_dec"] + t["b_dec"],
    ),
    "JumpReluAutoEncoder": ("jump_relu", {**MATRICES, "threshold": (LATENTS,)}, matrices),
    "GatedAutoEncoder": (
        "jump_relu",
        {**{n: s for n, s in LAYERS.items() if n != "encoder.bias"}, "decoder_bias": (D_IN,)}
        | dict.fromkeys(("r_mag", "gate_bias", "mag_bias"), (LATENTS,)),
        gated,
    ),
}


def made(folder: Path, name: str) -> Tree:
    tensors = drawn(**CLASSES[name][1])
    held = dict(tensors)
    if "TopK" in name:
        held["k"] = torch.tensor(K, dtype=torch.int)
    if name.startswith("Matryoshka"):
        held["group_sizes"] = torch.tensor([4, LATENTS - 4])
    trainer = {"dict_class": name, "activation_dim": D_IN, "dict_size": LATENTS, "layer": 3, "submodule_name": None}
    write_json(folder / "config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})
    torch.save(held, folder / "ae.pt")
    return wide(tensors)


@pytest.mark.parametrize("name", CLASSES)
def test_its_output_is_its_definition(tmp_path: Path, name: str) -> None:
    activation, _, oracle = CLASSES[name]
    t = made(tmp_path / "trainer_0", name)
    for path in (tmp_path / "trainer_0", tmp_path / "trainer_0" / "ae.pt"):
        coder, site, form = gives(path, inputs(), lambda x: oracle(t, x))
        assert (coder.spec.kind, coder.spec.activation, form) == ("sae", activation, "dictionary_learning")
        assert (site.module, site.kind) == ("layer 3", "resid")
    assert coder.spec.k == (K if "TopK" in name else None)


def test_a_module_as_a_state_dict_reads_too(tmp_path: Path) -> None:
    """Earlier versions saved the OrderedDict that torch gives, with the versions of its modules."""
    made(tmp_path, "AutoEncoderNew")
    module = torch.nn.ModuleDict({"encoder": torch.nn.Linear(D_IN, LATENTS), "decoder": torch.nn.Linear(LATENTS, D_IN)})
    torch.save(module.state_dict(), tmp_path / "ae.pt")
    x = inputs()
    coder, _, _ = load_any(tmp_path)
    torch.testing.assert_close(coder(x), module["decoder"](module["encoder"](x).relu()))


def test_another_class_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "AutoEncoder")
    trainer = {"dict_class": "IdentityDict", "activation_dim": D_IN, "dict_size": LATENTS}
    write_json(tmp_path / "config.json", {"trainer": trainer})
    with pytest.raises(CoderError, match=r"config\.json: dict_class is IdentityDict.*AutoEncoderTopK"):
        load_any(tmp_path)


def test_without_its_settings_it_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "AutoEncoder")
    (tmp_path / "config.json").unlink()
    with pytest.raises(CoderError, match=r"config\.json is absent: it says how"):
        load_any(tmp_path)
