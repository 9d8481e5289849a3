"""Evaluate text is found in the text that is fitted on, whichever of them is tokens and whichever holds the other."""

import random
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from plainspoken.corpus import Document, read_documents, split_corpus, tokenize
from plainspoken.corpus.leaks import STRETCH, WHOLE, _standing_in
from plainspoken.errors import CorpusError, CorpusWarning

WORDS = ("the", "girl", "found", "a", "red", "ball", "under", "her", "bed", "and", "went", "home", "café", "naïve")


def tale(seed: int, words: int = 80) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(words))


def tokens_of(tokenizer: PreTrainedTokenizerFast, *texts: str) -> np.ndarray:
    """The texts as one row, a BOS before each."""
    return np.concatenate([np.array([0, *ids], np.int32) for ids in tokenize(tokenizer, texts)])


def left(fitted: list[Document], held: list[Document], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Keys of the evaluate documents that are not dropped, when all of the fitted ones stand beside them."""
    others = [Document(f"other{i}", tale(10_000 + i)) for i in range(30)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CorpusWarning)
        parts = split_corpus([*others, *fitted], held, tokenizer=tokenizer)
    kept = sorted(document.key for document in parts["evaluate"])
    told = [str(w.message) for w in caught]
    dropped = len(held) - len(kept)
    assert [line.split(" also ")[0] for line in told] == [f"{dropped} of {len(held)} evaluate documents"] * bool(
        dropped
    )
    return kept


@pytest.mark.parametrize("fitted_as", ["text", "tokens"])
@pytest.mark.parametrize("held_as", ["text", "tokens"])
def test_a_copy_is_found_whichever_side_is_tokens(
    byte_tokenizer: PreTrainedTokenizerFast, fitted_as: str, held_as: str
) -> None:
    def document(key: str, text: str, kind: str) -> Document:
        return Document(key, text) if kind == "text" else Document(key, tokens=tokens_of(byte_tokenizer, text))

    fitted = [document("short", "A few words.", fitted_as), document("long", tale(1), fitted_as)]
    held = [
        document("same", "A few\n words.", held_as),
        document("stretch", tale(1)[7:150], held_as),
        document("around", tale(2) + tale(1) + tale(3), held_as),
        document("new", tale(4), held_as),
        document("short but new", "Some words.", held_as),
    ]
    assert left(fitted, held, byte_tokenizer) == ["new", "short but new"]


def test_a_row_of_several_texts_is_compared_text_by_text(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    """A row cut inside a word, and inside a character, still holds the text that it was cut from."""
    cut = np.concatenate([tokens_of(byte_tokenizer, tale(5))[6:], tokens_of(byte_tokenizer, tale(6))])
    fitted = [Document("row", tokens=cut)]
    held = [Document("cut", tale(5)), Document("whole", tale(6)), Document("new", tale(7))]
    assert left(fitted, held, byte_tokenizer) == ["new"]
    assert left(held[:2], [Document("row", tokens=cut), held[2]], byte_tokenizer) == ["new"]


def test_short_stretches_are_chance(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    opening = tale(8)[: STRETCH - 1]
    held = [Document("around", f"{opening} {tale(9)}"), Document("new", tale(7))]
    assert left([Document("opening", opening)], held, byte_tokenizer) == ["around", "new"]
    assert left([Document("opening", tale(8)[:STRETCH].strip() + "s")], held, byte_tokenizer) == ["around", "new"]
    tail = Document("two", tokens=tokens_of(byte_tokenizer, tale(11), tale(8)[:100]))
    assert left([Document("text", tale(8))], [tail, held[1]], byte_tokenizer) == ["new", "two"]
    assert left([Document("text", tale(8))], [Document("one", tale(8)[:WHOLE]), held[1]], byte_tokenizer) == ["new"]
    assert left([Document("text", tale(8))], [Document("one", tale(8)[: WHOLE - 1]), held[1]], byte_tokenizer) == [
        "new",
        "one",
    ]


def test_the_text_is_compared_as_its_tokens_spell_it(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    """A tokenizer that lowercases spells another text than the one it was given."""
    from tokenizers import normalizers

    lower = byte_tokenizer.backend_tokenizer.from_str(byte_tokenizer.backend_tokenizer.to_str())
    lower.normalizer = normalizers.Lowercase()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=lower, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    held = [Document("loud", tale(1).upper()), Document("new", tale(7))]
    assert left([Document("row", tokens=tokens_of(tokenizer, tale(1)))], held, tokenizer) == ["new"]


def test_nothing_left_is_refused(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    fitted = [Document("row", tokens=tokens_of(byte_tokenizer, tale(1)))]
    with pytest.raises(CorpusError, match=r"1 of 1 .*'copy' in 'row'.*leaves none: name another --eval-corpus"):
        left(fitted, [Document("copy", tale(1))], byte_tokenizer)


@given(
    st.lists(st.text("ab \U0001f600", max_size=12), max_size=6),
    st.lists(st.text("ab \U0001f600", max_size=40), max_size=6),
)
def test_windows_find_what_a_search_of_everything_finds(needles: list[str], hay: list[str]) -> None:
    for window in (1, 3):
        some = [needle for needle in needles if len(needle) >= window]
        slow = {(i, j) for i, needle in enumerate(some) for j, straw in enumerate(hay) if needle in straw}
        assert set(_standing_in(some, hay, window)) == slow


@pytest.mark.real
def test_the_models_own_samples_and_real_stories_share_nothing_and_a_copy_is_found_fast(real: Path) -> None:
    from plainspoken.lm import load_lm

    tokenizer = load_lm(str(real / "stories260K"), device="cpu").tokenizer
    rows = list(read_documents(str(real / "samples.safetensors")))
    stories = list(read_documents(str(real / "tinystories.jsonl")))
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CorpusWarning)
        assert len(split_corpus(rows, stories, tokenizer=tokenizer)["evaluate"]) == len(stories)
    assert time.perf_counter() - began < 10
    [ids] = tokenize(tokenizer, [stories[5].text or ""])
    with pytest.warns(CorpusWarning, match=rf"1 of {len(stories)} .*'{stories[5].key}' \(in 'copy'\)"):
        split_corpus([*rows, Document("copy", tokens=ids[:200])], stories, tokenizer=tokenizer)
