"""The explanations file: what was written is read back, what was edited is known, what does not hold is named."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.errors import ExplanationError
from plainspoken.pipeline import explanations as e
from plainspoken.types import Explanation

sentences = st.text(st.characters(exclude_categories=["Cs"]))


def written(folder: Path, texts: list[str]) -> Path:
    e.write_explanations(folder, [Explanation(i, text, len(text.split()), "rules") for i, text in enumerate(texts)])
    return folder / e.CURRENT


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def rewrite(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


@given(st.lists(sentences, max_size=5))
def test_any_sentences_are_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("explain")
    written(folder, texts)
    found = e.read_explanations(folder)
    assert [found[i].text for i in range(len(texts))] == texts
    assert e.edits(folder) == ()
    assert not e.is_edited(folder)


@given(st.lists(sentences, min_size=1, max_size=5), sentences, st.data())
def test_exactly_the_changed_sentences_are_edits(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], new: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("explain")
    path = written(folder, texts)
    latent = data.draw(st.integers(0, len(texts) - 1))
    before = e.content_hash(folder)
    rewrite(path, [{**r, "text": new} if r["latent"] == latent else r for r in reversed(lines(path))])
    changed = new != texts[latent]
    assert e.is_edited(folder) == changed
    assert (e.content_hash(folder) != before) == changed
    assert e.edits(folder) == ((e.EditedSentence(latent, texts[latent], new),) if changed else ())
    assert e.read_explanations(folder)[latent].explainer == ("edited" if changed else "rules")


def test_order_and_spacing_of_the_file_are_the_editors_own(tmp_path: Path) -> None:
    path = written(tmp_path, ["a", "b"])
    before = e.content_hash(tmp_path)
    path.write_text('\n{ "text" : "b", "latent" : 1 }\n\n{"latent": 0, "text": "a"}\n')
    assert e.content_hash(tmp_path) == before
    assert not e.is_edited(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r[:1] + r[2:], "missing: 1"),
        (lambda r: [*r, r[2]], "double: 2"),
        (lambda r: [*r, {"latent": 9, "text": "x"}], "unknown: 9"),
        (lambda r: [*r, {"latent": -1, "text": "x"}], "unknown: -1"),
        (lambda r: [*r[1:], r[1], {"latent": 7, "text": ""}], r"missing: 0; double: 1; unknown: 7"),
    ],
)
def test_latents_that_are_missing_double_or_unknown_are_named(tmp_path: Path, change, told: str) -> None:
    path = written(tmp_path, ["a", "b", "c"])
    rewrite(path, change(lines(path)))
    with pytest.raises(ExplanationError, match=told):
        e.read_explanations(tmp_path, latents=5)


def test_a_sentence_for_a_latent_that_had_none_is_an_edit(tmp_path: Path) -> None:
    path = written(tmp_path, ["a", "b"])
    rewrite(path, [*lines(path), {"latent": 4, "text": "new"}])
    assert e.read_explanations(tmp_path, latents=5)[4].text == "new"
    assert e.edits(tmp_path) == (e.EditedSentence(4, None, "new"),)


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"latent": "3", "text": "x"}', '{"latent": 3}', '{"latent": true, "text": ""}']
)
def test_a_line_that_does_not_read_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = written(tmp_path, ["a", "b"])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ExplanationError, match=r"explanations\.jsonl, line 3"):
        e.read_explanations(tmp_path)


def test_a_file_that_is_not_utf_8_is_told_as_such(tmp_path: Path) -> None:
    written(tmp_path, ["a"]).write_bytes(b'{"latent": 0, "text": "\xff"}\n')
    with pytest.raises(ExplanationError, match="UTF-8"):
        e.read_explanations(tmp_path)


def test_a_changed_sentence_is_counted_as_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, ["Fires at 9 on “her”.", "Fires at 9 on “him”."])
    records = lines(path)
    records[0]["text"] = "Fires at 9 on “her” or “him”."
    rewrite(path, records)
    assert [e.read_explanations(tmp_path)[i].words for i in (0, 1)] == [7, 5]
