"""Pieces spell the text: byte-level BPE, SentencePiece with byte fallback, WordPiece, plain vocabularies."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from plainspoken.corpus import Pieces, tokenize
from plainspoken.corpus.pieces import _ALPHABET
from plainspoken.errors import ModelError

CORPUS = ["the cat sat on the mat\n", "def f(x):\n    return x + 1\n", "ünïcödé — 漢字 😀", "the the the cat"] * 3
# No lone surrogates: they are no text, and no encoding has bytes for them.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def byte_level(*, normalizer: object = None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("   ", normalized=False), AddedToken("éa", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama's: spaces are "▁", what the merges do not know falls back to bytes."""
    specials = ["<unk>", "<s>", "</s>"]
    names = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "t", "h", "e", "▁t", "he", "▁the", "a"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    model = models.BPE({n: i for i, n in enumerate(names)}, merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(specials)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


BYTE_LEVEL, NFC, SENTENCEPIECE = byte_level(), byte_level(normalizer=normalizers.NFC()), sentencepiece()
PIECES = {id(t): Pieces.from_tokenizer(t) for t in (BYTE_LEVEL, NFC, SENTENCEPIECE)}


def spelled(tokenizer: PreTrainedTokenizerFast, text: str) -> bytes:
    (ids,) = tokenize(tokenizer, [text])
    joined, ends = PIECES[id(tokenizer)].row_bytes(ids)
    assert len(ends) == len(ids) and (np.diff(ends) > 0).all() and (not len(ends) or ends[-1] == len(joined))
    return joined


@given(TEXT)
def test_byte_level_pieces_are_the_texts_bytes(text: str) -> None:
    assert spelled(BYTE_LEVEL, text) == text.encode()


@given(TEXT)
def test_a_normalising_tokenizers_pieces_are_the_normalised_texts_bytes(text: str) -> None:
    # Added tokens are matched before normalisation; all of them stand unchanged under NFC.
    assert spelled(NFC, text).decode() == unicodedata.normalize("NFC", text)


@given(TEXT.filter(lambda text: "▁" not in text))
def test_sentencepiece_pieces_are_a_space_and_the_texts_bytes(text: str) -> None:
    assert spelled(SENTENCEPIECE, text) == ((" " + text).encode() if text else b"")


@pytest.mark.parametrize("text", ["<s> and </s>", "a<|end|>b", "<unk>", "the   é éa e\u0301"])
def test_special_tokens_spelled_out_in_a_text_are_text(text: str) -> None:
    assert spelled(BYTE_LEVEL, text) == text.encode()
    assert spelled(SENTENCEPIECE, text) == b" " + text.encode()


def test_special_tokens_and_ids_past_the_tokenizer_spell_nothing() -> None:
    pieces = Pieces.from_tokenizer(SENTENCEPIECE, vocabulary=300)
    assert len(pieces.table) == 300
    assert pieces.table[:3] == (b"", b"", b"") and pieces.table[299] == b""
    assert pieces.text(np.array([1, 299, 3 + 0xC3, 3 + 0xA9])) == "é"
    assert pieces.text(np.array([3 + 0xC3])) == "�"


def test_fingerprints_tell_tables_apart() -> None:
    tables = [*PIECES.values(), Pieces((b"ab", b"")), Pieces((b"a", b"b"))]
    assert len({pieces.fingerprint for pieces in tables}) == 4  # two of the five differ in their normaliser alone
    assert Pieces.from_tokenizer(BYTE_LEVEL).fingerprint == PIECES[id(BYTE_LEVEL)].fingerprint


def test_the_alphabet_is_the_tokenizers_librarys() -> None:
    assert set(_ALPHABET) == set(pre_tokenizers.ByteLevel.alphabet()) and set(_ALPHABET.values()) == set(range(256))


@pytest.mark.parametrize(
    "model",
    [
        models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "cats": 3}, unk_token="[UNK]"),
        models.WordLevel({"playing": 0, "cats": 1, "[UNK]": 2}, unk_token="[UNK]"),
    ],
)
def test_words_split_at_spaces_get_their_space_back(model: models.Model) -> None:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if isinstance(tokenizer.model, models.WordPiece):
        tokenizer.decoder = decoders.WordPiece()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    (ids,) = tokenize(wrapped, ["playing cats"])
    assert Pieces.from_tokenizer(wrapped).row_bytes(ids)[0] == b" playing cats"


def test_end_of_word_suffixes_are_spaces() -> None:
    tokenizer = Tokenizer(models.BPE({"cat</w>": 0, "c": 1, "a": 2, "t</w>": 3}, [], end_of_word_suffix="</w>"))
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    assert Pieces.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer)).table == (
        b"cat ",
        b"c",
        b"a",
        b"t ",
    )


def test_characters_without_a_decoder_stand_for_themselves() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, " ": 1, "ab": 2, "b": 3}, [("a", "b")]))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    (ids,) = tokenize(wrapped, ["ab a b"])
    assert Pieces.from_tokenizer(wrapped).text(ids) == "ab a b"


def test_an_unknown_decoder_and_a_slow_tokenizer_are_refused() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    tokenizer.decoder = decoders.CTC()
    with pytest.raises(ModelError, match="'CTC'"):
        Pieces.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        Pieces.from_tokenizer(object())


def test_a_tokenizers_truncation_padding_and_special_token_setting_are_set_aside_and_put_back() -> None:
    tokenizer = byte_level()
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(3)
    backend.enable_padding(length=3)
    (ids,) = tokenize(tokenizer, ["x" * 50])
    assert len(ids) == 50
    assert backend.truncation["max_length"] == 3 and backend.padding["length"] == 3
    assert backend.encode_special_tokens is False


@pytest.mark.real
@given(TEXT.filter(lambda text: "▁" not in text))
def test_the_real_tokenizers_pieces_are_the_texts_bytes(text: str) -> None:
    tokenizer, pieces = real_tokenizer()
    (ids,) = tokenize(tokenizer, [text])
    assert pieces.row_bytes(ids)[0] == ((" " + text).encode() if text else b"")


_REAL: list[tuple[PreTrainedTokenizerFast, Pieces]] = []


def real_tokenizer() -> tuple[PreTrainedTokenizerFast, Pieces]:
    from pathlib import Path

    if not _REAL:
        folder = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "stories260K"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        _REAL.append((tokenizer, Pieces.from_tokenizer(tokenizer, 512)))
    return _REAL[0]
