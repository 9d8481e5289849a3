"""The shared fixtures are what they claim to be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer


def test_byte_tokenizer_round_trips_any_text(byte_tokenizer) -> None:
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def round_trip(text: str) -> None:
        ids = byte_tokenizer(text, add_special_tokens=False)["input_ids"]
        assert byte_tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text

    round_trip()


@pytest.mark.parametrize("folder", ["neox_folder", "llama_folder"])
def test_tiny_models_load_and_tell_tokens_apart(folder: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(folder)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    tokens = AutoTokenizer.from_pretrained(path)("Once upon a time", return_tensors="pt")["input_ids"]
    logits = model(tokens).logits
    assert torch.isfinite(logits).all()
    assert logits.std() > 0.1
