"""Loading: what is whole loads the same twice; what is not says what is missing and where."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BertConfig, BertModel
from transformers.utils import logging

from plainspoken.errors import ModelError, UsageError
from plainspoken.lm import LanguageModel, load_lm


@pytest.fixture
def folder(neox_folder: Path, tmp_path: Path) -> Path:
    """A copy of the random GPT-NeoX that a test may harm."""
    return Path(shutil.copytree(neox_folder, tmp_path / "lm"))


def test_a_loaded_model_is_frozen_in_evaluation_mode_and_says_what_it_is(neox: LanguageModel) -> None:
    assert not neox.model.training and not any(p.requires_grad for p in neox.model.parameters())
    assert (neox.d_model, neox.context, neox.vocabulary, neox.bos_id) == (16, 64, 320, 0)
    assert neox.device == torch.device("cpu") and neox.dtype == torch.float32
    assert len(neox.pieces.table) == neox.vocabulary


def test_the_tokens_of_a_text_spell_it_and_what_is_no_text_is_refused(neox: LanguageModel) -> None:
    for text in ("", "class A:\n    def f(", "zwölf 🐍", "word " * 200):
        assert neox.pieces.text(np.array(neox.ids(text), np.int64)) == text
    for text in ("def \udcff(", "\ud83d", "a\udc80"):
        with pytest.raises(UsageError, match=f"character {len(text.rstrip('(')) - 1} of .* no UTF-8"):
            neox.ids(text)


def test_loading_gives_the_weights_of_the_folder(neox_folder: Path, neox: LanguageModel) -> None:
    tokens = torch.arange(12)[None]
    expected = AutoModelForCausalLM.from_pretrained(neox_folder)(tokens).logits
    assert torch.equal(neox.model(tokens).logits, expected)


def test_auto_is_float32_on_the_cpu_and_a_dtype_asked_for_is_taken(neox_folder: Path) -> None:
    assert load_lm(str(neox_folder), device="cpu").dtype == torch.float32
    assert load_lm(str(neox_folder), device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_the_fingerprint_is_the_models_own(folder: Path, neox: LanguageModel) -> None:
    same = load_lm(str(folder), device="cpu", dtype="float32")
    assert same.fingerprint == neox.fingerprint
    assert load_lm(str(folder), device="cpu", dtype="bfloat16").fingerprint != neox.fingerprint
    weights = load_file(folder / "model.safetensors")
    weights["gpt_neox.layers.1.mlp.dense_h_to_4h.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert load_lm(str(folder), device="cpu", dtype="float32").fingerprint != neox.fingerprint


def test_transformers_progress_bars_and_verbosity_are_put_back(folder: Path) -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_lm(str(folder), device="cpu")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_lm(str(folder), device="cpu")
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_a_tokenizer_says_how_to_save_one(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match=r"lm' has no tokenizer .*tokenizer\.save_pretrained"):
        load_lm(str(folder))


def test_a_folder_without_a_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"lm' has no config\.json"):
        load_lm(str(folder))


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot load the model of '.*lm'"):
        load_lm(str(folder))


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"cannot load the model of '.*lm'"):
        load_lm(str(folder))


def test_weights_that_lack_a_tensor_are_refused_rather_than_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack or misshape 1 tensors .*\.1\.mlp\.dense_h_to_4h\.weight"):
        load_lm(str(folder))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(ModelError, match=r"'.*lm'"):
        load_lm(str(folder))


@pytest.mark.parametrize("text", ["{", '{"model_type": "no-such-family"}', "{}"])
def test_a_configuration_that_says_nothing_usable_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"cannot load the model of '.*lm'"):
        load_lm(str(folder))


def test_a_model_that_is_no_language_model_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "nothing", ignore_errors=True)
    config = BertConfig(vocab_size=320, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(folder)
    with pytest.raises(ModelError):
        load_lm(str(folder))


@pytest.mark.parametrize("kept", [0, 2, 500])
def test_a_truncated_tokenizer_is_refused(folder: Path, kept: int) -> None:
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"cannot load the tokenizer of '.*lm'"):
        load_lm(str(folder))


def test_the_bundled_pocket_model_is_the_default_and_speaks_python() -> None:
    lm = load_lm(device="cpu")
    assert lm.name == "pocket" and lm.context == 256 and lm.bos_id == 0 and lm.vocabulary == len(lm.pieces.table)
    ids = torch.tensor([[lm.bos_id, *lm.tokenizer("class Parser:\n    def __init__(")["input_ids"]]])
    assert lm.pieces.table[int(lm.model(ids).logits[0, -1].argmax())] == b"self"


@pytest.mark.parametrize("name", ["./no/such", "/no/such", "~/no-such-folder", "runs/no/such"])
def test_a_path_that_leads_nowhere_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match=f"no folder '{name}' here"):
        load_lm(name)


def test_a_name_that_is_neither_here_nor_on_the_hub_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'no-one/no-such-model-7f': .*check the name"):
        load_lm("no-one/no-such-model-7f")


def test_a_device_without_float64_is_refused(neox_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"'mps' has no float64, .*: use cpu"):
        load_lm(str(neox_folder), device="mps")


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_here_is_refused(neox_folder: Path, device: str) -> None:
    with pytest.raises(ModelError, match=f"no device.*'{device}'"):
        load_lm(str(neox_folder), device=device)


def test_an_unknown_dtype_is_refused(neox_folder: Path) -> None:
    with pytest.raises(ModelError, match="'float8' is not known: use auto, float32, bfloat16, float16"):
        load_lm(str(neox_folder), dtype="float8")


def test_importing_the_package_and_its_corpus_loads_no_torch() -> None:
    code = (
        "import sys, plainspoken, plainspoken.corpus; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_used_where_there_is_one(neox_folder: Path) -> None:
    lm = load_lm(str(neox_folder))
    assert lm.device.type == "cuda" and lm.dtype in (torch.bfloat16, torch.float16)
