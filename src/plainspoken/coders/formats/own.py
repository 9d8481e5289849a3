"""plainspoken's own checkpoint: `coder.safetensors` with the parameters by name, `coder.json` with spec and site."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from plainspoken.coders.base import Coder, CoderSpec
from plainspoken.coders.formats.format import CheckpointFormat, files_named, folder_of, marked_by
from plainspoken.coders.formats.tensors import AGAIN, read_safetensors, read_settings
from plainspoken.errors import CoderError, ConfigError
from plainspoken.store import write_atomic, write_json
from plainspoken.types import Site

WEIGHTS = "coder.safetensors"
HEADER = "coder.json"
_FORMAT = "plainspoken coder 1"


@dataclass(frozen=True)
class _Named:
    format: str


@dataclass(frozen=True)
class _Header:
    spec: CoderSpec
    site: Site


@dataclass(frozen=True)
class _Told:
    extra: dict[str, Any] = field(default_factory=dict)


def save_coder(folder: Path, coder: Coder, site: Site, extra: Mapping[str, Any] | None = None) -> None:
    """Writes the coder; `extra`: any JSON that tells whoever finds the file where it is from (`read_extra`)."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in coder.state_dict().items()}
    header = {"format": _FORMAT, "spec": asdict(coder.spec), "site": asdict(site), "extra": dict(extra or {})}
    with write_atomic(folder / WEIGHTS) as file:
        file.write(save(tensors))
    write_json(folder / HEADER, header)


def load_coder(folder: Path) -> Coder:
    """The coder in the folder, on the CPU, its parameters requiring no gradient.

    Raises CoderError that names the file and what is wrong with it: absent, truncated, not ours, a tensor missing,
    unknown, of the wrong shape, or with values that are not finite.
    """
    return _load(folder)[0]


def read_spec(folder: Path) -> CoderSpec:
    """What the coder in the folder is, from its header alone. Raises CoderError as `load_coder` does of the header."""
    return _read_header(folder)[0]


def read_extra(path: Path) -> Mapping[str, Any]:
    """What `save_coder` was given as `extra`. Raises CoderError as `load_coder` does of the header."""
    return read_settings(folder_of(path) / HEADER, _Told).extra


def _load(path: Path) -> tuple[Coder, Site]:
    folder = folder_of(path)
    spec, site = _read_header(folder)
    with torch.device("meta"):  # the file's tensors take the place of its own
        coder = Coder(spec)
    tensors = read_safetensors(folder / WEIGHTS, HEADER)
    held = {name: tensors.take(name, *wanted.shape) for name, wanted in coder.state_dict().items()}
    tensors.none_left()
    coder.load_state_dict(held, assign=True)
    return coder.requires_grad_(False), site


def _read_header(folder: Path) -> tuple[CoderSpec, Site]:
    path = folder / HEADER
    if not path.is_file():
        raise CoderError(f"{path} is absent: this folder holds no coder of ours; train one, or convert")
    written = read_settings(path, _Named).format
    if written != _FORMAT:
        raise CoderError(
            f"{path}: format '{written}', where this version reads '{_FORMAT}'; use the version of plainspoken that "
            "wrote it, or train the coder again"
        )
    try:
        header = read_settings(path, _Header)
    except ConfigError as error:
        raise CoderError(f"{path} tells of a coder that cannot be: {error}; {AGAIN}") from error
    return header.spec, header.site


OWN = CheckpointFormat(
    "plainspoken", "every coder of ours", marked_by(HEADER, WEIGHTS), files_named(HEADER, WEIGHTS), _load, save_coder
)
