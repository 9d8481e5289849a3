"""Documents to rows: never glued, nothing lost, the same whatever the order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from plainspoken.corpus import Document, Pieces, build_rows, require_part, tokenize
from plainspoken.errors import CorpusError, LeakError
from plainspoken.types import Rows


def bytes_tokenizer(bos: bool = True) -> PreTrainedTokenizerFast:
    """One token a byte, after a token that starts a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<s>": 0} | {name: i + 1 for i, name in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **({"bos_token": "<s>"} if bos else {}))


TOKENIZER, WITHOUT_BOS = bytes_tokenizer(), bytes_tokenizer(bos=False)
PIECES = Pieces.from_tokenizer(TOKENIZER)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), min_size=1, max_size=8)


def documents(texts: list[str]) -> list[Document]:
    return [Document(f"{i}", text) for i, text in enumerate(texts)]


def text_of(rows: Rows, document: int) -> bytes:
    mine = rows.document == document
    return PIECES.row_bytes(rows.tokens[mine][rows.mask[mine]])[0]


@given(TEXTS, st.integers(2, 9), st.sampled_from(["auto", "row", "never"]))
def test_a_documents_rows_are_its_tokens_in_order_and_no_others(texts: list[str], context: int, bos: str) -> None:
    try:
        rows = build_rows(documents(texts), TOKENIZER, context=context, bos=bos, part="fit")
    except CorpusError:
        assert sum(len(text.encode()) for text in texts) < context
        return
    assert sorted(rows.keys) == sorted(map(str, range(len(texts))))
    for i, key in enumerate(rows.keys):
        assert text_of(rows, i) == texts[int(key)].encode()
    assert rows.tokens.shape[1] == context and (np.diff(rows.document) >= 0).all()
    lead = int(bos != "never")
    assert (rows.tokens[:, :lead] == 0).all() and not rows.mask[:, :lead].any()
    # Text first, padding after it; only a document's last row is padded.
    assert (np.diff(rows.mask[:, lead:].astype(int), axis=1) <= 0).all()
    last = np.append(np.diff(rows.document) > 0, True)
    assert rows.mask[~last, lead:].all()


@given(TEXTS, st.integers(4, 40), st.integers(0, 3), st.randoms())
def test_order_of_documents_changes_nothing_and_caps_hold(texts: list[str], cap: int, seed: int, random) -> None:
    texts = ["enough", *texts]
    given_order = documents(texts)
    shuffled = list(given_order)
    random.shuffle(shuffled)
    make = lambda d: build_rows(d, TOKENIZER, context=4, part="fit", max_tokens=cap, seed=seed)  # noqa: E731
    try:
        rows = make(given_order)
    except CorpusError:
        return
    assert rows.fingerprint == make(shuffled).fingerprint and rows.keys == make(shuffled).keys
    assert rows.token_count <= cap
    for i, key in enumerate(rows.keys):
        whole = texts[int(key)].encode()
        # Every document but the last one taken is whole.
        assert text_of(rows, i) == whole if i < len(rows.keys) - 1 else whole.startswith(text_of(rows, i))


def test_the_cap_stops_at_a_whole_row_and_seeds_choose_documents() -> None:
    many = documents([f"document {i:03d}" for i in range(50)])
    taken = [build_rows(many, TOKENIZER, context=6, part="fit", max_tokens=100, seed=s) for s in range(2)]
    assert all(95 < rows.token_count <= 100 for rows in taken)
    assert set(taken[0].keys) != set(taken[1].keys)


def test_rows_per_document_are_spread_over_it_in_order() -> None:
    long = Document("long", "".join(f"{i:03d}" for i in range(100)))
    rows = build_rows([long, Document("short", "abc")], TOKENIZER, context=4, part="evaluate", rows_per_document=5)
    kept = [PIECES.row_bytes(t[m])[0].decode() for t, m in zip(rows.tokens, rows.mask, strict=True)]
    assert sorted(kept) == ["000", "025", "050", "074", "099", "abc"]


def test_token_documents_are_cut_at_bos_and_given_no_second_one() -> None:
    ids = np.array([0, 5, 6, 7, 0, 0, 8, 9, 0], np.int16)
    rows = build_rows([Document("t", tokens=ids)], TOKENIZER, context=4, part="fit")
    assert rows.keys == ("t", "t+1")
    assert rows.tokens.tolist() == [[0, 5, 6, 7], [0, 8, 9, 0]]
    assert rows.mask.tolist() == [[False, True, True, True], [False, True, True, False]]
    rows = build_rows([Document("t", tokens=ids)], TOKENIZER, context=3, bos="never", part="fit")
    assert rows.tokens.tolist() == [[5, 6, 7], [8, 9, 0]]


def test_auto_starts_no_row_with_bos_where_the_tokenizer_has_none() -> None:
    rows = build_rows([Document("t", "abcdef")], WITHOUT_BOS, context=4, part="fit")
    assert rows.mask.sum(1).tolist() == [4, 2]
    with pytest.raises(CorpusError, match=r"no BOS token: set corpus\.bos"):
        build_rows([Document("t", "abcdef")], WITHOUT_BOS, context=4, bos="row", part="fit")


@pytest.mark.parametrize("bad", [-1, 257, 4000])
def test_ids_outside_the_vocabulary_are_named(bad: int) -> None:
    document = Document("samples.safetensors#7", tokens=np.array([0, 5, bad, 6]))
    with pytest.raises(CorpusError, match=rf"samples\.safetensors#7: token id {bad} at position 2 .* of 257"):
        build_rows([document], TOKENIZER, context=4, part="fit")
    if bad == 257:
        assert build_rows([document], TOKENIZER, context=4, part="fit", vocabulary=258).token_count == 3


def test_too_little_text_is_refused() -> None:
    with pytest.raises(CorpusError, match="'calibrate' gives 5 tokens of text from 2 documents, less than one row"):
        build_rows(documents(["abc", "de"]), TOKENIZER, context=8, part="calibrate")
    with pytest.raises(CorpusError, match="raise its cap of 3 tokens"):
        build_rows(documents(["abcdefgh"]), TOKENIZER, context=8, part="calibrate", max_tokens=3)
    with pytest.raises(CorpusError, match="no document falls to the part 'explain'"):
        build_rows([], TOKENIZER, context=8, part="explain")
    with pytest.raises(CorpusError, match="leaves no place for text"):
        build_rows(documents(["abc"]), TOKENIZER, context=1, part="fit")


def test_only_what_the_cap_needs_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    from plainspoken.corpus import rows as module

    seen: list[int] = []

    def counting(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list:
        seen.extend(map(len, texts))
        return tokenize(tokenizer, texts)

    monkeypatch.setattr(module, "tokenize", counting)
    monkeypatch.setattr(module, "_BATCH", 1000)
    build_rows(documents(["abcdefghij" * 10] * 500), TOKENIZER, context=16, part="fit", max_tokens=3000)
    assert sum(seen) <= 4000


def test_evaluate_rows_are_refused_elsewhere() -> None:
    rows = build_rows(documents(["abcdef"]), TOKENIZER, context=4, part="evaluate")
    require_part(rows, "evaluate")
    require_part(rows, "explain", "evaluate")
    with pytest.raises(LeakError, match="'evaluate' were given where only 'fit' or 'explain' may be used"):
        require_part(rows, "fit", "explain")
