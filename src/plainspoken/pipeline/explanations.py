"""The file of explanations that people edit, and the copy beside it of what the explainer wrote."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plainspoken.errors import ExplanationError, StoreError
from plainspoken.language.quote import count_words
from plainspoken.store import write_text
from plainspoken.store.manifest import digest
from plainspoken.types import Explanation, Failure

CURRENT = "explanations.jsonl"
AS_WRITTEN = "as_written.jsonl"
EDITED = "edited"
"""What stands for the explainer of a sentence that a person wrote."""
_FIELDS = ("latent", "text", "words", "explainer", "prompt_hash")


@dataclass(frozen=True)
class EditedSentence:
    """A sentence that a person changed, or wrote for a latent that had none (`old` is None)."""

    latent: int
    old: str | None
    new: str


def write_explanations(folder: Path, explanations: Sequence[Explanation]) -> None:
    """Write both files, the copy first: an explanations file never stands without what it is compared with."""
    lines = [{name: getattr(e, name) for name in _FIELDS if getattr(e, name) is not None} for e in explanations]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(folder / AS_WRITTEN, text)
    write_text(folder / CURRENT, text)


def read_as_written(folder: Path) -> dict[int, Explanation]:
    """What the explainer wrote, by latent. Raises StoreError where the file is missing, ExplanationError as below."""
    return {e.latent: e for e in _read(folder / AS_WRITTEN)}


def read_explanations(folder: Path, latents: int | None = None) -> dict[int, Explanation]:
    """What stands in the file now, by latent; edited sentences are marked `EDITED`.

    latents: how many the coder has; None: as many as the explainer explained.
    Raises ExplanationError naming the latents that are missing, double or unknown, or the line that does not read;
    StoreError where a file is missing.
    """
    path = folder / CURRENT
    written = read_as_written(folder)
    found = _read(path)
    counts = Counter(e.latent for e in found)
    problems = {
        "missing": sorted(set(written) - set(counts)),
        "double": sorted(latent for latent, n in counts.items() if n > 1),
        "unknown": sorted(n for n in counts if n < 0 or (n not in written if latents is None else n >= latents)),
    }
    told = [f"{kind}: {_listed(which)}" for kind, which in problems.items() if which]
    if told:
        raise ExplanationError(
            f"{path} does not hold one line for each latent ({'; '.join(told)}); mend those lines, or copy "
            f"{AS_WRITTEN} over it to start from what the explainer wrote"
        )
    return {e.latent: _marked(e, written.get(e.latent)) for e in sorted(found, key=lambda e: e.latent)}


def edits(folder: Path) -> tuple[EditedSentence, ...]:
    """The sentences that differ from what the explainer wrote, by latent. Raises as `read_explanations` does."""
    written = read_as_written(folder)
    current = {e.latent: e for e in _read(folder / CURRENT)}
    found = []
    for latent, explanation in sorted(current.items()):
        old = written[latent].text if latent in written else None
        if explanation.text != old:
            found.append(EditedSentence(latent, old, explanation.text))
    return tuple(found)


def unread_told(folder: Path, failures: Sequence[Failure]) -> list[str]:
    """A line each for sentences that could not be read: where they stand, and why. Raises as `edits` does."""
    path = folder / CURRENT
    line = {explanation.latent: f", line {n}" for n, explanation in _by_line(path).items()}
    # A person may have taken a line out since it was read.
    return [f"{path}{line.get(each.latent, '')} (latent {each.latent}): {each.reason}" for each in failures]


def is_edited(folder: Path) -> bool:
    """Whether the explanations file says anything else than the copy; a file that cannot be read counts as edited."""
    if not (folder / CURRENT).exists() or not (folder / AS_WRITTEN).exists():
        return False
    try:
        return content_hash(folder) != digest(_texts(_read(folder / AS_WRITTEN)))
    except ExplanationError:
        return True


def content_hash(folder: Path) -> str:
    """Hash of the sentences by latent: order of lines, spacing of the JSON and other fields do not matter.

    Raises as `read_explanations` does for a file that is missing or a line that does not read.
    """
    return digest(_texts(_read(folder / CURRENT)))


def _texts(explanations: Sequence[Explanation]) -> list[tuple[int, str]]:
    return sorted((e.latent, e.text) for e in explanations)


def _marked(explanation: Explanation, written: Explanation | None) -> Explanation:
    if written is not None and written.text == explanation.text:
        return written
    return Explanation(explanation.latent, explanation.text, count_words(explanation.text), EDITED)


def _read(path: Path) -> list[Explanation]:
    return list(_by_line(path).values())


def _by_line(path: Path) -> dict[int, Explanation]:
    """What each line says, by its number from 1; empty lines left out."""
    try:
        # Only line feeds end a line: str.splitlines would also cut at characters that a sentence may hold.
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing; make it anew with --force explain") from error
    except UnicodeDecodeError as error:
        raise ExplanationError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return {n: _explanation(path, n, line) for n, line in enumerate(lines, 1) if line.strip()}


def _explanation(path: Path, number: int, line: str) -> Explanation:
    where = f"{path}, line {number}"
    try:
        record: Mapping[str, Any] = json.loads(line)
    except json.JSONDecodeError as error:
        raise ExplanationError(
            f"{where}: not JSON at column {error.colno}: {error.msg}; "
            'within a sentence write \\" for a straight quotation mark, or use “ ”'
        ) from error
    latent, text = (record.get("latent"), record.get("text")) if isinstance(record, dict) else (None, None)
    if not isinstance(latent, int) or isinstance(latent, bool) or not isinstance(text, str):
        raise ExplanationError(f'{where}: expected an object like {{"latent": 7, "text": "..."}}')
    # Counted as it stands: people who change a sentence do not count its words.
    return Explanation(
        latent,
        text,
        count_words(text),
        str(record.get("explainer", EDITED)),
        record.get("prompt_hash"),
    )


def _listed(latents: Sequence[int]) -> str:
    shown = ", ".join(map(str, latents[:10]))
    return shown if len(latents) <= 10 else f"{shown} and {len(latents) - 10} more"
