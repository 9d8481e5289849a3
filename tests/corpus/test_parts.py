"""The split belongs to the document; nothing of the evaluate part stands in another."""

import random
import warnings
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from plainspoken.corpus import Document, build_parts, split_corpus
from plainspoken.corpus.split import SHARES, part_of
from plainspoken.errors import CorpusError, CorpusWarning
from plainspoken.types import PARTS

MANY = [Document(f"d{i}", f"the text of document number {i}") for i in range(300)]


def keys(parts: dict) -> dict[str, list[str]]:
    return {part: [document.key for document in documents] for part, documents in parts.items()}


def test_every_document_falls_to_one_part_in_about_its_share() -> None:
    parts = keys(split_corpus(MANY))
    assert sorted(chain(*parts.values())) == sorted(document.key for document in MANY)
    for part, share in SHARES.items():
        assert abs(len(parts[part]) / len(MANY) - share) < 0.07


@settings(max_examples=20)
@given(st.randoms())
def test_the_split_does_not_depend_on_order_or_on_the_other_documents(generator: random.Random) -> None:
    whole = keys(split_corpus(MANY))
    some = generator.sample(MANY, 200)
    for part, found in keys(split_corpus(some)).items():
        chosen = {document.key for document in some}
        assert found == [key for key in whole[part] if key in chosen]


def test_an_evaluate_corpus_of_its_own_is_the_whole_evaluate_part() -> None:
    others = [Document(f"e{i}", f"other {i}") for i in range(20)]
    plain, parts = keys(split_corpus(MANY)), keys(split_corpus(MANY, others))
    assert sorted(parts["evaluate"]) == sorted(document.key for document in others)
    assert sorted(parts["fit"] + parts["explain"] + parts["calibrate"]) == sorted(d.key for d in MANY)
    assert all(part_of(key, evaluate_elsewhere=True) != "evaluate" for key in plain["evaluate"])


def test_copies_of_evaluate_text_are_dropped_with_the_count() -> None:
    long = "Once upon a time there was a girl named Lily who loved to play with her red ball in the big park."
    documents = [*MANY, Document("glued", f"Some words first.\n\n{long}\nAnd some after.")]
    evaluate = [
        Document("same", "the  text of\ndocument number 7"),
        Document("within", long.replace(" ", "\n")),
        Document("other", long[:-1] + "!"),
        Document("tokens", tokens=np.arange(4)),
    ]
    with pytest.warns(CorpusWarning, match=r"2 of 4 evaluate documents .* were dropped, such as '.*' \(in '.*'\)"):
        parts = split_corpus(documents, evaluate)
    assert sorted(document.key for document in parts["evaluate"]) == ["other", "tokens"]
    with pytest.raises(CorpusError, match="leaves none: name another --eval-corpus"):
        split_corpus(documents, evaluate[:2])


def test_copies_within_one_corpus_of_files_are_found_and_of_records_fall_together() -> None:
    evaluate = next(d for d in MANY if part_of(d.key) == "evaluate")
    key = next(f"copy{i}" for i in range(99) if part_of(f"copy{i}") == "explain")
    with pytest.warns(CorpusWarning, match=rf"'{evaluate.key}' \(in '{key}'\)"):
        split_corpus([*MANY, Document(key, evaluate.text)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_corpus([*MANY, *(Document(f"r{i}", "again", identity="digest of again") for i in range(9))])


def test_copied_token_rows_are_found() -> None:
    rows = [Document(f"t{i}", tokens=np.array([1, 2, i])) for i in range(40)]
    with pytest.warns(CorpusWarning, match="1 of 2 evaluate documents"):
        split_corpus(
            rows, [Document("e", tokens=np.array([1, 2, 5], np.int16)), Document("f", tokens=np.array([1, 2]))]
        )


def test_only_what_the_caps_need_is_kept_and_gives_the_same_rows(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    kept = split_corpus(MANY, keep={"fit": 100, "evaluate": 60})
    whole = split_corpus(MANY)
    assert kept["explain"] == whole["explain"]
    for part, size in (("fit", 100), ("evaluate", 60)):
        assert kept[part] == whole[part][: len(kept[part])]
        assert size <= sum(document.size for document in kept[part]) < size + 40
    caps = dict.fromkeys(PARTS, 90)
    arguments = {"context": 8, "max_tokens": caps, "rows_per_document": {"evaluate": 2}, "seed": 3}
    reference = split_corpus(MANY, seed=3)
    for part, rows in build_parts(MANY, byte_tokenizer, **arguments).items():
        order = [document.key for document in reference[part]]
        assert rows.part == part and list(rows.keys) == order[: len(rows.keys)]
        assert 80 < rows.token_count <= 90
        assert part != "evaluate" or np.bincount(rows.document).max() <= 2


def test_a_part_without_documents_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"none of the 1 documents falls to the part .*<\|endoftext\|>"):
        split_corpus(MANY[:1])
    with pytest.raises(CorpusError, match="falls to the part 'evaluate'"):
        split_corpus(MANY, [])
