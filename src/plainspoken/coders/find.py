"""A coder from wherever it comes: the format of a path is recognised, and its widths are held against a site."""

import os
from collections.abc import Iterator
from pathlib import Path

from plainspoken.coders.base import Coder
from plainspoken.coders.formats import FORMATS, CheckpointFormat
from plainspoken.coders.formats.tensors import AGAIN, read_settings
from plainspoken.errors import CoderError
from plainspoken.store import sha256_file
from plainspoken.store.manifest import digest
from plainspoken.types import Site

_SHOWN = 8
_DEPTH = 4
"""Folders that are looked into below one that holds no checkpoint itself: REPOSITORY/layer/width/sparsity."""


def load_any(path: Path | str) -> tuple[Coder, Site, str]:
    """(the coder, its site as the checkpoint names it, the name of the format) of a checkpoint of any known format.

    path: the checkpoint's folder, or its file. Raises CoderError where there is none (checkpoints in the folders below
    are named) or where it came to harm; nothing in it is executed.
    """
    found = format_of(Path(path))
    coder, site = found.load(Path(path))
    return coder, site, found.name


def format_of(path: Path) -> CheckpointFormat:
    """The format of the checkpoint at a path. CoderError where there is none, or more than one."""
    found = [form for form in FORMATS.values() if form.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{form.files(path)[0]} ({form.name})" for form in found)
        raise CoderError(f"{path} holds checkpoints of several formats; name the file of the one you mean: {names}")
    if not path.exists():
        raise CoderError(f"{path} is not there; name a coder's folder or file")
    below = [str(folder) for folder in checkpoints_below(path)]
    if below:
        more = f" and {len(below) - _SHOWN} more" if len(below) > _SHOWN else ""
        raise CoderError(f"{path} holds no coder itself, but below it do: {', '.join(below[:_SHOWN])}{more}; name one")
    if lacking := _lacking(path):
        raise CoderError(f"{path} holds no whole coder: it lacks {' or '.join(lacking)}; {AGAIN}")
    raise CoderError(
        f"{path} holds no coder in any format that is known here: {', '.join(FORMATS)}; name a coder's folder or file "
        "(docs/formats.md says what they look like)"
    )


def is_coder(path: Path) -> bool:
    """Whether a checkpoint of some format lies at a path, whole or not."""
    return any(form.recognises(path) for form in FORMATS.values())


def _lacking(path: Path) -> list[str]:
    """The first file, by which a format is known, where others of its files lie in the folder."""
    found = []
    for form in FORMATS.values():
        first, *others = form.files(path)
        if path.is_dir() and any(file.is_file() and _tells(form, file) for file in others):
            found.append(f"{first.name} ({form.name})")
    return found


def _tells(form: CheckpointFormat, file: Path) -> bool:
    """Whether a file beside the first is of this format and no other's."""
    if form.settings is None:
        return True
    try:
        read_settings(file, form.settings)
    except CoderError:
        return False
    return True


def fingerprint(path: Path) -> str:
    """SHA-256 over the files that the checkpoint at a path is read from. Raises CoderError as `format_of` does."""
    files = [file for file in format_of(path).files(path) if file.is_file()]
    return digest([(file.name, sha256_file(file)) for file in files])


def checkpoints_below(path: Path) -> list[Path]:
    """The folders below a folder that hold a checkpoint, in order; where there are none, files that may be one."""
    found = sorted(_below(path, _DEPTH)) if path.is_dir() else []
    # A training's folder is full of `.pt` files: the state of its optimiser is no coder.
    return [each for each in found if each.is_dir()] or found


def _below(path: Path, depth: int) -> Iterator[Path]:
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        here = path / entry.name
        if entry.is_dir() and not entry.name.startswith("."):
            if is_coder(here):
                yield here
            elif depth > 1:
                yield from _below(here, depth - 1)
        elif entry.is_file() and is_coder(here):
            yield here


def require_fits(coder: Coder, site: Site, path: Path) -> None:
    """CoderError where the coder at `path` cannot stand at this site: another width, or of another kind."""
    spec = coder.spec
    kind = "transcoder" if site.kind == "mlp" else "sae"
    if (spec.d_in, spec.d_out) != (site.d_in, site.d_out):
        raise CoderError(
            f"the coder in {path} has widths {spec.d_in} -> {spec.d_out}, but {site.module} has {site.d_in} -> "
            f"{site.d_out}; take a coder that was trained on this model, or name the site that it was trained at"
        )
    if spec.kind != kind:
        what = {"transcoder": "a transcoder", "sae": "an sae"}
        where = {
            "mlp": "an FFN, read at its input, written at its output",
            "resid": "read and written at its output",
        }
        mend = {
            "transcoder": "name the FFN that it was trained at, and leave coder.kind at auto",
            "sae": "name the site that it was trained at; if that is this FFN's output, use coder.kind=sae",
        }
        raise CoderError(
            f"the coder in {path} is {what[spec.kind]}, but {site.module} is {where[site.kind]}: that takes "
            f"{what[kind]}; {mend[spec.kind]}"
        )
