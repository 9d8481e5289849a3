"""Whatever lies at a path is recognised or named, and what came to harm is told with the file and the mend."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from checkpoints_made import D_IN, LATENTS, drawn, write_json
from plainspoken.coders import FORMATS, Coder, CoderSpec, load_any, require_fits, save_coder
from plainspoken.coders.formats.unpickle import read_pt
from plainspoken.errors import CoderError
from plainspoken.types import Site

SITE = Site("model.layers.0", "resid", D_IN, D_IN)
MATRICES = {"W_enc": (D_IN, LATENTS), "b_enc": (LATENTS,), "W_dec": (LATENTS, D_IN), "b_dec": (D_IN,)}


def coder_of(activation: str = "topk") -> Coder:
    k = 2 if activation == "topk" else None
    coder = Coder(CoderSpec("sae", activation, LATENTS, k, False, D_IN, D_IN))
    with torch.no_grad():
        for tensor in coder.state_dict().values():
            tensor.normal_()
    return coder


def by_saving(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        save = FORMATS[name].save
        assert save is not None
        save(folder, coder_of(), SITE)

    return make


def dictionary_learning(folder: Path) -> None:
    trainer = {"dict_class": "JumpReluAutoEncoder", "activation_dim": D_IN, "dict_size": LATENTS}
    write_json(folder / "config.json", {"trainer": trainer})
    torch.save(drawn(**MATRICES, threshold=(LATENTS,)), folder / "ae.pt")


def gemma_scope(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: t.numpy() for name, t in drawn(**MATRICES, threshold=(LATENTS,)).items()}
    np.savez(folder / "params.npz", **arrays)


def gemma_scope_2(folder: Path) -> None:
    write_json(folder / "config.json", {"hf_hook_point_in": "model.layers.1.output", "architecture": "jump_relu"})
    held = {name.replace("W", "w"): t for name, t in drawn(**MATRICES, threshold=(LATENTS,)).items()}
    save_file(held, folder / "params.safetensors")


MADE: dict[str, tuple[Callable[[Path], None], str, str | None]] = {
    "plainspoken": (by_saving("plainspoken"), "coder.safetensors", "coder.json"),
    "sparsify": (by_saving("sparsify"), "sae.safetensors", "cfg.json"),
    "saelens": (by_saving("saelens"), "sae_weights.safetensors", "cfg.json"),
    "dictionary_learning": (dictionary_learning, "ae.pt", "config.json"),
    "gemma_scope": (gemma_scope, "params.npz", None),
    "gemma_scope_2": (gemma_scope_2, "params.safetensors", "config.json"),
}
"""How each format that is a folder is made, its file of tensors and its file of settings."""


def held_in(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".npz":
        return {name: torch.from_numpy(array) for name, array in np.load(path).items()}
    return dict(read_pt(path)) if path.suffix == ".pt" else load_file(path)


def put(path: Path, tensors: dict[str, Any]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    elif path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)


@pytest.mark.parametrize("name", MADE)
def test_a_folder_and_each_of_its_files_is_recognised(tmp_path: Path, name: str) -> None:
    make, weights, _ = MADE[name]
    make(tmp_path / "it")
    assert load_any(tmp_path / "it")[2] == name
    assert load_any(str(tmp_path / "it" / weights))[2] == name


@pytest.mark.parametrize("name", MADE)
def test_truncated_anywhere_is_told(tmp_path: Path, name: str) -> None:
    make, weights, settings = MADE[name]
    make(tmp_path)
    for file in filter(None, (weights, settings)):
        whole = (tmp_path / file).read_bytes()
        for length in sorted({0, 1, 9, len(whole) // 3, len(whole) - 3}):
            (tmp_path / file).write_bytes(whole[:length])
            with pytest.raises(CoderError, match=rf"{file} is truncated or .*"):
                load_any(tmp_path)
        (tmp_path / file).write_bytes(whole)
    load_any(tmp_path)


@pytest.mark.parametrize("name", MADE)
def test_a_tensor_that_is_missing_unknown_misshapen_or_not_finite_is_told(tmp_path: Path, name: str) -> None:
    make, weights, _ = MADE[name]
    make(tmp_path)
    path = tmp_path / weights
    whole = held_in(path)

    def told(words: str, **changed: Tensor | None) -> None:
        put(path, {n: t for n, t in {**whole, **changed}.items() if t is not None})
        with pytest.raises(CoderError, match=rf"{weights}.*{words}"):
            load_any(tmp_path)

    for each, tensor in whole.items():
        told(f"lacks the tensor '{each}'; it holds ", **{each: None})
        if not (name.startswith("gemma") and each.lower() == "w_enc"):  # of which alone they have their widths
            told(f"'{each}' has shape", **{each: torch.cat([tensor, tensor])})
        told(f"'{each}' has shape", **{each: tensor[None]})
        told(f"'{each}' holds NaN or infinity", **{each: torch.full_like(tensor, float("nan"))})
    told("holds the tensor 'more'", more=torch.zeros(2))


@pytest.mark.parametrize("name", [name for name, (_, _, settings) in MADE.items() if settings])
def test_settings_that_are_absent_or_something_else_are_told(tmp_path: Path, name: str) -> None:
    make, _, settings = MADE[name]
    make(tmp_path)
    assert settings is not None
    path = tmp_path / settings
    for content in ("[]", "3", '{"metadata": 1}', "[" * 100_000):
        path.write_text(content)
        with pytest.raises(CoderError, match=rf"{settings}"):
            load_any(tmp_path)
    path.unlink()
    if name != "plainspoken":
        with pytest.raises(CoderError, match=rf"{settings} is absent"):
            load_any(tmp_path)


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(CoderError, match="nowhere is not there"):
        load_any(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(CoderError, match=r"holds no coder in any format .* sparsify, saelens"):
            load_any(path)


def test_half_a_checkpoint_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(CoderError, match=r"it lacks sae\.safetensors \(sparsify\) or sae_weights\.safetensors \(sael"):
        load_any(tmp_path)


@pytest.mark.parametrize(
    ("settings", "lacking"),
    [
        ({"trainer": {"dict_class": "AutoEncoder", "activation_dim": 6, "dict_size": 14}}, r"ae\.pt \(dictionary_lea"),
        ({"hf_hook_point_in": "model.layers.1.output"}, r"params\.safetensors \(gemma_scope_2\);"),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, None),
        ({"lm": {"name": "pocket"}}, None),
        ([], None),
    ],
)
def test_a_config_json_is_half_a_checkpoint_where_it_says_so(
    tmp_path: Path, settings: Any, lacking: str | None
) -> None:
    """Many a folder has one: a language model's, a run's."""
    write_json(tmp_path / "config.json", settings)
    words = rf"holds no whole coder: it lacks {lacking}" if lacking else "holds no coder in any format"
    with pytest.raises(CoderError, match=words):
        load_any(tmp_path)


def test_a_pickle_s_names_may_be_anything_and_complex_numbers_are_no_weights(tmp_path: Path) -> None:
    dictionary_learning(tmp_path / "dl")
    held = held_in(tmp_path / "dl" / "ae.pt")
    torch.save({**held, 3: torch.ones(1)}, tmp_path / "dl" / "ae.pt")
    with pytest.raises(CoderError, match=r"holds the tensor '3', which config\.json does not provide for"):
        load_any(tmp_path / "dl")
    gemma_scope(tmp_path / "gs")
    arrays = dict(np.load(tmp_path / "gs" / "params.npz"))
    np.savez(tmp_path / "gs" / "params.npz", **{**arrays, "W_dec": arrays["W_dec"] * 1j})
    with pytest.raises(CoderError, match="'W_dec' holds complex numbers"):
        load_any(tmp_path / "gs")


def test_no_advice_to_load_a_pickle_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "params.npz").write_bytes(b"hello")
    with pytest.raises(CoderError, match="it is no zip of arrays") as told:
        load_any(tmp_path)
    assert "allow_pickle" not in str(told.value)


def test_coders_further_down_are_named(tmp_path: Path) -> None:
    for module in ("layers.2.mlp", "layers.3.mlp"):
        by_saving("sparsify")(tmp_path / "run" / module)
    torch.save({}, tmp_path / "run" / "optimizer_0.pt")
    with pytest.raises(CoderError, match=r"but below it do: \S+run/layers\.2\.mlp, \S+run/layers\.3\.mlp; name one"):
        load_any(tmp_path)
    dictionary_learning(tmp_path / "dl" / "trainer_0")
    with pytest.raises(CoderError, match=r"below it do: .*trainer_0; name one"):
        load_any(tmp_path / "dl")


def test_two_checkpoints_in_one_folder_are_told_apart_by_their_files(tmp_path: Path) -> None:
    by_saving("plainspoken")(tmp_path)
    by_saving("sparsify")(tmp_path)
    with pytest.raises(CoderError, match=r"several formats; name the file .*coder\.json \(plainspoken\), \S+sae\.saf"):
        load_any(tmp_path)
    assert load_any(tmp_path / "sae.safetensors")[2] == "sparsify"


def test_settings_that_contradict_the_tensors_are_told(tmp_path: Path) -> None:
    by_saving("sparsify")(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    write_json(tmp_path / "cfg.json", {**cfg, "num_latents": 99})
    with pytest.raises(CoderError, match=r"'encoder.weight' has shape \[14, 6\], but cfg.json calls for \[99, 6\]"):
        load_any(tmp_path)
    write_json(tmp_path / "cfg.json", {**cfg, "k": 99})
    with pytest.raises(CoderError, match=r"holds a coder that cannot be: coder\.k is 99"):
        load_any(tmp_path)


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if form.save is not None])
@pytest.mark.parametrize("name", MADE)
def test_from_any_to_any_the_output_stays(tmp_path: Path, name: str, to: str) -> None:
    """What a format cannot hold is refused."""
    MADE[name][0](tmp_path / "from")
    coder, site, _ = load_any(tmp_path / "from")
    save, x = FORMATS[to].save, torch.randn(20, D_IN)
    assert save is not None
    if to == "sparsify" and coder.spec.activation != "topk":
        with pytest.raises(CoderError, match="topk coders only"):
            save(tmp_path / "to", coder, site)
        return
    save(tmp_path / "to", coder, site)
    back, where, found = load_any(tmp_path / "to")
    torch.testing.assert_close(back(x), coder(x), atol=1e-5, rtol=1e-5)
    assert (back.spec, where, found) == (coder.spec, site, to)


def test_a_coder_that_does_not_fit_its_site_is_told(tmp_path: Path) -> None:
    coder = coder_of()
    require_fits(coder, SITE, tmp_path)
    with pytest.raises(
        CoderError, match=r"widths 6 -> 6, but m has 6 -> 8; take a coder that was trained on this model"
    ):
        require_fits(coder, Site("m", "mlp", 6, 8), tmp_path)
    with pytest.raises(CoderError, match=r"is an sae, but m is an FFN, .*that takes a transcoder; name the site"):
        require_fits(coder, Site("m", "mlp", 6, 6), tmp_path)


@pytest.mark.parametrize("name", MADE)
def test_a_loaded_coder_does_not_change_with_its_file(tmp_path: Path, name: str) -> None:
    make, weights, _ = MADE[name]
    make(tmp_path)
    coder, x = load_any(tmp_path)[0], torch.randn(3, D_IN)
    before = coder(x)
    with (tmp_path / weights).open("r+b") as file:
        file.write(b"\xff" * (tmp_path / weights).stat().st_size)
    assert torch.equal(coder(x), before)


def test_a_kill_while_writing_leaves_no_checkpoint(tmp_path: Path) -> None:
    """The file that is recognised comes last, or is told to lack its other half."""
    for name in ("plainspoken", "sparsify", "saelens"):
        MADE[name][0](tmp_path / name)
        (tmp_path / name / str(MADE[name][2])).unlink()
        with pytest.raises(CoderError, match=r"holds no whole coder: it lacks|is absent"):
            load_any(tmp_path / name)
        shutil.rmtree(tmp_path / name)
    save_coder(tmp_path / "whole", coder_of(), SITE)
    assert load_any(tmp_path / "whole")[1] == SITE
