"""plainspoken's own checkpoint: `coder.safetensors` with the parameters by name, `coder.json` with spec and site."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from plainspoken.coders.base import Coder, CoderSpec
from plainspoken.coders.formats.format import CheckpointFormat
from plainspoken.errors import CoderError, ConfigError, StoreError
from plainspoken.store import read_json, write_atomic, write_json
from plainspoken.types import Site

WEIGHTS = "coder.safetensors"
HEADER = "coder.json"
_FORMAT = "plainspoken coder 1"


def save_coder(folder: Path, coder: Coder, site: Site, extra: Mapping[str, Any] | None = None) -> None:
    """Writes the coder; `extra` is any JSON that should travel with it (figures of its training, say)."""
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


def read_extra(folder: Path) -> dict[str, Any]:
    """What `save_coder` was given as `extra`. Raises CoderError as `load_coder` does, of the header alone."""
    return _read_header(folder)[2]


def _load(folder: Path) -> tuple[Coder, Site]:
    spec, site, _ = _read_header(folder)
    coder = Coder(spec)
    path = folder / WEIGHTS
    tensors = _read_tensors(path)
    wanted = coder.state_dict()
    for name in sorted(wanted.keys() - tensors.keys()):
        raise CoderError(f"{path} lacks the tensor '{name}'; it holds {', '.join(sorted(tensors)) or 'nothing'}")
    for name in sorted(tensors.keys() - wanted.keys()):
        raise CoderError(f"{path} holds the tensor '{name}', which {HEADER} does not provide for: {spec}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)}, but {HEADER} calls for {list(wanted[name].shape)}"
            raise CoderError(f"{path}: the tensor '{name}' has shape {shapes}")
        if not torch.isfinite(tensor).all():
            raise CoderError(f"{path}: the tensor '{name}' holds NaN or infinity; train the coder again")
    coder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return coder.requires_grad_(False), site


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CoderError(f"{path} is absent: this folder holds no coder of ours; train one, or convert") from None
    except SafetensorError as error:
        raise CoderError(f"{path} is truncated or no safetensors file ({error}); train the coder again") from error


def _read_header(folder: Path) -> tuple[CoderSpec, Site, dict[str, Any]]:
    path = folder / HEADER
    if not path.is_file():
        raise CoderError(f"{path} is absent: this folder holds no coder of ours; train one, or convert")
    try:
        header = read_json(path)
        if header["format"] != _FORMAT:
            raise CoderError(f"{path}: format '{header['format']}', where this version reads '{_FORMAT}'")
        spec = TypeAdapter(CoderSpec).validate_python(header["spec"])
        return spec, TypeAdapter(Site).validate_python(header["site"]), header["extra"]
    except (StoreError, KeyError, TypeError, ValidationError, ConfigError) as error:
        raise CoderError(f"{path} is truncated or altered ({error}); train the coder again") from error


OWN = CheckpointFormat("plainspoken", lambda folder: (folder / HEADER).is_file(), _load, save_coder)
