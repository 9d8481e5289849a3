"""Where documents come from: one short reader for each kind of source.

Files of text are named by their path, and split by it. Records (a line of JSONL, a row of Parquet, of a tensor or of a
hub dataset) are named by their place and split by a digest of their content, so that their order does not matter.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from plainspoken.corpus.document import Document
from plainspoken.corpus.stdlib import standard_library_files
from plainspoken.errors import CorpusError
from plainspoken.hub import hidden

# A line of its own that ends a text in a plain-text corpus of many (TinyStories is published so).
END_OF_TEXT = b"<|endoftext|>"

TEXT_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("txt", "text", "md", "rst", "tex", "org", "html", "htm", "xml", "srt", "log", "css", "sql"),
        *("json", "csv", "tsv", "yaml", "yml", "toml", "ini", "cfg"),
        *("py", "pyi", "js", "ts", "jsx", "tsx", "java", "c", "h", "cc", "cpp", "hpp", "cs", "go", "rs", "rb", "php"),
        *("pl", "sh", "r", "jl", "lua", "scala", "kt", "swift", "hs", "ml", "ex", "exs", "erl", "clj", "lisp", "el"),
    )
)


def read_documents(source: str, text_field: str = "text", characters: int = 0) -> Iterator[Document]:
    """The documents of a source, one at a time; those without text are left out.

    "stdlib": the running interpreter's standard library. A folder: every file of a known kind below it, those that
    begin with a dot left out. `.jsonl`: the `text_field` of each line; `.parquet`: that column of each row;
    `.safetensors`: each row of the integer tensor `tokens` [row, t]. Any other file: text in UTF-8, one document, or
    several where lines that hold nothing but <|endoftext|> divide it. "hf:NAME[:CONFIG[:SPLIT]]": a dataset on the
    Hugging Face hub (split "train" unless named), read until `characters` (0: to its end), since a hub corpus may
    have no end worth waiting for.

    Raises CorpusError, saying which file, line or byte, for what is not there, not readable, not UTF-8, not JSON, or
    lacks the field; and for a source without any text.
    """
    if source.startswith("self:"):
        raise CorpusError(f"'{source}' is sampled from the model itself: it cannot stand where text is read")
    if source == "stdlib":
        documents = _standard_library()
    elif source.startswith("hf:"):
        documents = _hub(source, text_field, characters)
    else:
        documents = _path(source, text_field)
    empty = True
    for document in documents:
        if document.tokens is not None or (document.text and not document.text.isspace()):
            empty = False
            yield document
    if empty:
        raise CorpusError(f"the corpus '{source}' holds no text: name a file or a folder that does")


def source_path(source: str) -> Path | None:
    """The file or folder that a source names, there or not; None for what is not read from the disk."""
    return None if source == "stdlib" or source.startswith(("self:", "hf:")) else Path(source).expanduser()


def _nearby(path: Path) -> str:
    """What may have been meant by a path that is not there: the nearest name in its folder, if there is a folder."""
    if not path.parent.is_dir():
        return f"; its folder '{path.parent}' is not there either"
    nearest = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    return f"; nearest: {path.parent / nearest[0]}" if nearest else ""


def require_source(source: str) -> None:
    """Raises CorpusError for a source that is not there, before any of it is read."""
    path = source_path(source)
    if path is not None and not path.exists():
        raise CorpusError(
            f"no corpus at '{source}': name a file, a folder, hf:NAME, self:ROWSxTOKENS or stdlib{_nearby(path)}"
        )
    if source.startswith("hf:"):
        _datasets(source)


def token_documents(tokens: Integer[np.ndarray, "row t"], name: str) -> Iterator[Document]:
    """Each row of a token tensor as a document called `name#row`."""
    for r, row in enumerate(tokens):
        yield Document(f"{name}#{r}", tokens=row, identity=_digest(np.ascontiguousarray(row, np.int64).tobytes()))


def _standard_library() -> Iterator[Document]:
    seen: set[str] = set()  # some packages are marked by the same one-line file
    for key, path in standard_library_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a few modules declare another encoding; the pocket model was trained without them too
        if text not in seen:
            seen.add(text)
            yield Document(key, text)


def _path(source: str, text_field: str) -> Iterator[Document]:
    require_source(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path, text_field)
    return _reader(path)(path, path.name, text_field)


def _folder(folder: Path, text_field: str) -> Iterator[Document]:
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        known = path.suffix.lower() in TEXT_SUFFIXES or path.suffix.lower() in _READERS
        if known and path.is_file() and not any(part.startswith(".") for part in below.parts):
            yield from _reader(path)(path, below.as_posix(), text_field)


def _reader(path: Path) -> Callable[[Path, str, str], Iterator[Document]]:
    return _READERS.get(path.suffix.lower(), _text_file)


def _text_file(path: Path, key: str, text_field: str) -> Iterator[Document]:
    lines: list[bytes] = []
    begin = end = count = 0
    for line in _lines(path):
        end += len(line)
        if line.strip() == END_OF_TEXT:
            text = _decoded(path, b"".join(lines), begin).strip("\n")
            yield Document(f"{key}#{count}", text, identity=_digest(text.encode()))
            lines, begin, count = [], end, count + 1
        else:
            lines.append(line)
    text = _decoded(path, b"".join(lines), begin)
    if not count:
        yield Document(key, text)
    else:
        text = text.strip("\n")
        yield Document(f"{key}#{count}", text, identity=_digest(text.encode()))


def _decoded(path: Path, data: bytes, begin: int) -> str:
    """UTF-8 bytes that begin at byte `begin` of the file as text, every line ending read as a newline."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not UTF-8: byte {begin + error.start} (0x{data[error.start]:02X}) is no part of a character; "
            "convert the file, or leave it out"
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _jsonl(path: Path, key: str, text_field: str) -> Iterator[Document]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            where = f"{path} line {number}"
            yield _record(_parsed(line, where), text_field, f"{key}:{number}", where)


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where} is not UTF-8 at its byte {error.start}; convert the file") from error
    except json.JSONDecodeError as error:
        raise CorpusError(f"{where} is no JSON: {error.msg} at column {error.colno}; one object a line") from error


def _record(record: Any, text_field: str, key: str, where: str) -> Document:
    """The document of one record. Raises CorpusError where it has no such field, or no text in it."""
    if not isinstance(record, dict):
        raise CorpusError(f'{where} is no JSON object: one {{"{text_field}": "..."}} a line')
    if text_field not in record:
        raise CorpusError(
            f"{where} has no field '{text_field}' (it has: {', '.join(map(str, record)) or 'none'}): "
            "name the one that holds the text with --set corpus.text_field=NAME"
        )
    text = record[text_field]
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise CorpusError(f"{where}: the field '{text_field}' holds a {type(text).__name__}, not text")
    try:
        return Document(key, text, identity=_digest(text.encode()))
    except UnicodeEncodeError as error:
        raise CorpusError(f"{where}: half of a surrogate pair at character {error.start} is no text") from error


def _parquet(path: Path, key: str, text_field: str) -> Iterator[Document]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            if text_field not in file.schema_arrow.names:
                _record(dict.fromkeys(file.schema_arrow.names), text_field, key, str(path))
            number = 0
            for batch in file.iter_batches(columns=[text_field]):
                for record in batch.to_pylist():
                    yield _record(record, text_field, f"{key}#{number}", f"{path} row {number}")
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"cannot read {path} as Parquet: {_first_line(error)}") from error


def _token_file(path: Path, key: str, text_field: str) -> Iterator[Document]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            names = list(file.keys())
            tokens = file.get_tensor("tokens") if "tokens" in names else None
    except (SafetensorError, OSError) as error:
        raise CorpusError(f"cannot read {path}: {_first_line(error)}") from error
    if tokens is None:
        raise CorpusError(f"{path} has no tensor 'tokens' (it has: {', '.join(names) or 'none'}): save int [row, t]")
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise CorpusError(f"{path}: 'tokens' is {tokens.dtype} {list(tokens.shape)}, expected integers [row, t]")
    yield from token_documents(tokens, key)


def _hub(source: str, text_field: str, characters: int) -> Iterator[Document]:
    name, config, split = [*source.removeprefix("hf:").split(":"), "", ""][:3]
    datasets = _datasets(source)
    try:
        stream = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        read = 0
        for i, record in enumerate(stream):
            document = _record(record, text_field, f"{name}#{i}", f"{source} record {i}")
            yield document
            read += document.size
            if 0 < characters <= read:
                return
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise CorpusError(f"cannot read the hub dataset '{source}': {hidden(_first_line(error))}") from error


def _datasets(source: str) -> Any:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise CorpusError(
            f"'{source}' needs the datasets library: python -m pip install 'plainspoken[hub]' (in a clone: "
            "python -m pip install -c constraints.txt -e '.[hub]')"
        ) from error
    return datasets


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_READERS: dict[str, Callable[[Path, str, str], Iterator[Document]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
    ".safetensors": _token_file,
}
