"""An activation that is no number is refused on every part, also where the loss stays finite."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from plainspoken.config import Config, flat_settings, load_config
from plainspoken.corpus.split import part_of
from plainspoken.errors import ActivationError
from plainspoken.pipeline import run
from plainspoken.types import PARTS, Part

SITE = "gpt_neox.layers.1.mlp"
ODD = "~"
"""Stands in one document alone, as its last token: nothing comes after it that a loss could be measured on."""


@pytest.fixture(scope="module")
def odd_folder(
    neox_folder: Path, byte_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model, the last FFN of which overflows at the odd character and there alone.

    Its embedding is so large in one direction that the norm's output there is √(d - 1), the most there can be; a neuron
    that opens just below it is multiplied to infinity. No attention comes after that could carry it to other tokens.
    """
    folder = Path(shutil.copytree(neox_folder, tmp_path_factory.mktemp("odd") / "lm"))
    model = AutoModelForCausalLM.from_pretrained(neox_folder)
    [token] = byte_tokenizer(ODD, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model.gpt_neox.embed_in.weight[token] = 1e4 * torch.eye(model.config.hidden_size)[0]
        ffn = model.get_submodule(SITE)
        opens = (model.config.hidden_size - 1) ** 0.5 - 0.1
        ffn.dense_h_to_4h.weight[0] = 1e37 * torch.eye(model.config.hidden_size)[0]
        ffn.dense_h_to_4h.bias[0] = -opens * 1e37
        ffn.dense_4h_to_h.weight[0, 0] = 1e5
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("part", PARTS)
def test_an_infinity_at_a_last_token_names_document_and_site(
    odd_folder: Path, tiny: Config, corpus: Path, tmp_path: Path, part: Part
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    names = [f"{i}.txt" for i in range(100)]
    odd = next(name for name in names if part_of(name) == part)
    for name, line in zip(names, corpus.read_text().splitlines(), strict=True):
        (texts / name).write_text(json.loads(line)["text"] + ODD * (name == odd))
    settings = {name.replace(".", "__"): value for name, value in flat_settings(tiny).items()}
    config = load_config(**settings | {"lm__name": str(odd_folder), "corpus__source": str(texts), "site": SITE})
    with pytest.raises(ActivationError, match=rf"activations at site '{SITE}' in document '{odd}' \({part}, row"):
        run(config, tmp_path / "run", target="evaluate")
