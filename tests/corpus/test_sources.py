"""Every kind of source gives its documents, and what cannot be read is named: which file, which line, which byte."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from safetensors.numpy import save_file

from plainspoken.corpus.document import Document
from plainspoken.corpus.sources import read_documents
from plainspoken.errors import CorpusError


def texts(source: Path | str, **options: object) -> dict[str, str | None]:
    return {document.key: document.text for document in read_documents(str(source), **options)}


def test_the_standard_library_is_read_module_by_module() -> None:
    documents = {document.key: document for document in read_documents("stdlib")}
    assert len(documents) > 300 and "json/decoder.py" in documents
    assert documents["argparse.py"].hashed == "argparse.py"
    assert documents["argparse.py"].text == Path(json.__file__).parents[1].joinpath("argparse.py").read_text()
    assert not any(key.startswith(("test/", "site-packages/")) for key in documents)
    assert len({document.text for document in documents.values()}) == len(documents)


def test_a_text_file_is_one_document_and_line_endings_are_newlines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo é\rthree\n".encode())
    (document,) = read_documents(str(tmp_path / "a.txt"))
    assert (document.key, document.hashed, document.text) == ("a.txt", "a.txt", "one\ntwo é\nthree\n")


def test_lines_of_end_of_text_divide_a_file(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("one <|endoftext|> still one\n<|endoftext|>\n\n<|endoftext|>\ntwo\nlines\n")
    found = list(read_documents(str(tmp_path / "stories.txt")))
    assert [(d.key, d.text) for d in found] == [
        ("stories.txt#0", "one <|endoftext|> still one"),
        ("stories.txt#2", "two\nlines"),
    ]
    # Records are split by their content: the same text in another place of another file has the same identity.
    (tmp_path / "other.txt").write_text("zero\n<|endoftext|>\ntwo\nlines")
    assert list(read_documents(str(tmp_path / "other.txt")))[1].hashed == found[1].hashed


def test_a_folder_is_every_known_file_below_it(tmp_path: Path) -> None:
    for name, text in {"b.md": "b", "sub/a.py": "a", ".git/x.txt": "x", "sub/c.bin": "c", "empty.txt": " \n"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "sub" / "r.jsonl").write_text('{"text": "r"}\n')
    assert texts(tmp_path) == {"b.md": "b", "sub/a.py": "a", "sub/r.jsonl:1": "r"}


def test_jsonl_gives_the_field_of_each_line(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"story": "one\\u2028", "n": 1}\n\n{"story": ""}\n{"story": null}\n{"story": "two"}')
    assert texts(path, text_field="story") == {"s.jsonl:1": "one\u2028", "s.jsonl:5": "two"}
    path.write_text('{"text": "two"}\n{"text": "one"}\n')
    there = {d.text: d.hashed for d in read_documents(str(path))}
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    assert {d.text: d.hashed for d in read_documents(str(path))} == there


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"story": "x", "n": 1}', r"line 2 has no field 'text' \(it has: story, n\): .* corpus\.text_field"),
        (b'{"text": "x"', "line 2 is no JSON: .* at column"),
        (b'["text"]', "line 2 is no JSON object"),
        (b'{"text": 3}', "line 2: the field 'text' holds a int, not text"),
        (b'{"text": "\xff"}', "line 2 is not UTF-8 at its byte 10"),
        (b'{"text": "a\\ud800"}', "line 2: half of a surrogate pair at character 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "s.jsonl").write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(CorpusError, match=r"s\.jsonl " + message) as caught:
        texts(tmp_path / "s.jsonl")
    assert caught.value.exit_code == 2


def test_parquet_gives_the_column(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    parquet.write_table(pyarrow.table({"body": ["one", None, "two"], "n": [1, 2, 3]}), path)
    assert texts(path, text_field="body") == {"s.parquet#0": "one", "s.parquet#2": "two"}
    with pytest.raises(CorpusError, match=r"s\.parquet has no field 'text' \(it has: body, n\)"):
        texts(path)
    with pytest.raises(CorpusError, match=r"row 0: the field 'n' holds a int"):
        texts(path, text_field="n")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match=r"cannot read .*s\.parquet as Parquet: "):
        texts(path, text_field="body")


def test_token_tensors_give_a_document_a_row(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_file({"tokens": np.arange(6, dtype=np.int16).reshape(2, 3)}, path)
    found = list(read_documents(str(path)))
    assert [(d.key, d.tokens.tolist()) for d in found] == [
        ("s.safetensors#0", [0, 1, 2]),
        ("s.safetensors#1", [3, 4, 5]),
    ]
    save_file({"tokens": np.arange(6).reshape(2, 3)[::-1].copy()}, path)
    assert [d.hashed for d in read_documents(str(path))] == [d.hashed for d in found[::-1]]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"ids": np.zeros((2, 2), np.int64)}, r"has no tensor 'tokens' \(it has: ids\)"),
        ({"tokens": np.zeros((2, 2), np.float32)}, r"'tokens' is float32 \[2, 2\], expected integers \[row, t\]"),
        ({"tokens": np.zeros(4, np.int64)}, r"'tokens' is int64 \[4\]"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, tensors: dict, message: str) -> None:
    save_file(tensors, tmp_path / "s.safetensors")
    with pytest.raises(CorpusError, match=message):
        texts(tmp_path / "s.safetensors")


def test_a_truncated_tensor_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_file({"tokens": np.zeros((20, 20), np.int64)}, path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CorpusError, match=r"cannot read .*s\.safetensors"):
        texts(path)


def test_bytes_that_are_no_utf8_are_located(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"one\n<|endoftext|>\ncaf\xe9 au lait\n")
    with pytest.raises(CorpusError, match=r"latin\.txt is not UTF-8: byte 21 \(0xE9\)"):
        texts(tmp_path / "latin.txt")
    with pytest.raises(CorpusError, match=r"latin\.txt is not UTF-8: byte 21"):
        texts(tmp_path)


def test_what_may_have_been_meant_is_named(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("Once.")
    with pytest.raises(CorpusError, match=rf"nearest: {tmp_path}/stories\.txt$"):
        texts(tmp_path / "storys.txt")


def test_what_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=rf"no corpus at '{tmp_path}/no\.txt': .*or stdlib$"):
        texts(tmp_path / "no.txt")
    with pytest.raises(CorpusError, match="is not there either"):
        texts(tmp_path / "no" / "no.txt")
    with pytest.raises(CorpusError, match="holds no text"):
        texts(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(CorpusError, match=r"'.*empty\.txt' holds no text"):
        texts(tmp_path / "empty.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="no corpus at"):
        texts(tmp_path / "gone.txt")
    with pytest.raises(CorpusError, match="sampled from the model itself"):
        texts("self:3x4")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    # Reading a process's own memory at address 0 is an input/output error for every user, root too.
    if not Path("/proc/self/mem").exists():
        pytest.skip("this system has no /proc/self/mem to read in vain")
    (tmp_path / "mem.txt").symlink_to("/proc/self/mem")
    with pytest.raises(CorpusError, match=r"cannot read .*mem\.txt: Input/output error"):
        texts(tmp_path / "mem.txt")


def test_a_hub_dataset_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        CorpusError, match=r"'hf:roneneldan/TinyStories' needs .*: python -m pip install 'plainspoken\[hub\]'"
    ):
        texts("hf:roneneldan/TinyStories")


def test_a_hub_dataset_is_read_as_a_stream_until_there_is_enough(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the optional datasets library is not installed")
    (tmp_path / "train.jsonl").write_text("".join(f'{{"body": "text {i}"}}\n' for i in range(30)))
    found = texts(f"hf:{tmp_path}", text_field="body")
    assert list(found.values()) == [f"text {i}" for i in range(30)]
    assert len(texts(f"hf:{tmp_path}::train", text_field="body", characters=25)) == 5
    with pytest.raises(CorpusError, match=r"record 0 has no field 'text' \(it has: body\)"):
        texts(f"hf:{tmp_path}")
    with pytest.raises(CorpusError, match=r"cannot read the hub dataset '.*::other'"):
        texts(f"hf:{tmp_path}::other", text_field="body")


def test_a_document_is_text_or_tokens() -> None:
    with pytest.raises(AssertionError):
        Document("both", "text", np.zeros(3, np.int64))
    assert Document("t", tokens=np.zeros(3, np.int64)).size == 3
