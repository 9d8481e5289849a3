"""The example makes of llama2.c's two files the same model folder as was made by hand."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from plainspoken.corpus import Pieces, read_documents, tokenize

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "stories260k" / "make.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stories260k_make", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(real: Path, example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "stories260K"
    files = [str(real / "llama2c" / name) for name in ("stories260K.bin", "tok512.bin")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *files, str(folder)])
        example.main()
    return folder


@pytest.mark.real
def test_every_tensor_is_the_same(real: Path, made: Path) -> None:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (made, real / "stories260K"))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.real
def test_the_configuration_says_the_same(real: Path, made: Path) -> None:
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (made, real / "stories260K"))
    assert ours == theirs | {"transformers_version": ours["transformers_version"]}


@pytest.mark.real
def test_the_models_give_the_same_logits(real: Path, made: Path) -> None:
    tokens = torch.randint(512, (2, 40), generator=torch.Generator().manual_seed(0))
    ours, theirs = (AutoModelForCausalLM.from_pretrained(f)(tokens).logits for f in (made, real / "stories260K"))
    assert torch.equal(ours, theirs)


@pytest.mark.real
def test_the_tokenizers_behave_the_same(real: Path, made: Path) -> None:
    ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (made, real / "stories260K"))
    texts = [document.text for document in read_documents(str(real / "tinystories.jsonl"))]
    texts += ["", " ", "  two  spaces ", "tab\tnewline\n\n", "ünï 漢字 😀 ▁", "<s> </s> <unk> <0x0A>", "the" * 50]
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours(texts)["input_ids"] == theirs(texts)["input_ids"]
    for our_ids, their_ids in zip(tokenize(ours, texts), tokenize(theirs, texts), strict=True):
        assert our_ids.tolist() == their_ids.tolist()
        assert ours.decode(our_ids) == theirs.decode(their_ids)
    assert Pieces.from_tokenizer(ours).fingerprint == Pieces.from_tokenizer(theirs).fingerprint
    for name in ("bos_token_id", "eos_token_id", "unk_token_id", "pad_token_id", "model_max_length"):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.real
@pytest.mark.parametrize(("change", "message"), [(-400, "truncated"), (400, "its header speaks of")])
def test_a_file_of_another_length_is_refused(
    real: Path, tmp_path: Path, example: ModuleType, change: int, message: str
) -> None:
    data = (real / "llama2c" / "stories260K.bin").read_bytes()
    (tmp_path / "bad.bin").write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(ValueError, match=message):
        example.read_model(tmp_path / "bad.bin")
