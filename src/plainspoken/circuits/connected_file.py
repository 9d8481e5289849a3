"""A latent's connections, or the norms of all heads, as one JSON file each, with a version and a hash of its own."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from plainspoken.circuits.connected import Connected
from plainspoken.errors import StoreError
from plainspoken.store import read_json, write_json
from plainspoken.store.manifest import digest

FORMAT, VERSION = "plainspoken connections", 1
MEND = "put the file back, or make it again with: plainspoken connections"
_OWN = ("format", "version", "kind", "sha256")


@dataclass(frozen=True)
class HeadNorms:
    """‖W_Vᵀ W_O‖ of every head, by layer (`weights.ov_norms`). `about`: what it was made of."""

    norms: tuple[tuple[float, ...], ...]
    about: dict[str, Any] = field(default_factory=dict)


_KINDS: dict[str, Any] = {"latent": Connected, "heads": HeadNorms}


def save_connections(found: Connected | HeadNorms, path: Path) -> None:
    """Whole or not at all. Raises StoreError when the disk refuses."""
    [kind] = [name for name, each in _KINDS.items() if isinstance(found, each)]
    body = {"format": FORMAT, "version": VERSION, "kind": kind, **asdict(found)}
    write_json(path, {**body, "sha256": digest(body)})


def load_connections(path: Path) -> Connected | HeadNorms:
    """What `save_connections` wrote. Raises StoreError for what is missing, altered, newer, or something else."""
    body = read_json(path)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise StoreError(f"{path} holds no connections: its `format` is not '{FORMAT}'; name one that does")
    version = body.get("version")
    if isinstance(version, int) and version > VERSION:
        raise StoreError(f"{path} is of version {version}, and this program reads up to {VERSION}; update plainspoken")
    if digest({name: value for name, value in body.items() if name != "sha256"}) != body.get("sha256"):
        raise StoreError(f"{path} is altered: its content does not have the hash that it names; {MEND}")
    told = {name: value for name, value in body.items() if name not in _OWN}
    try:
        return TypeAdapter(_KINDS[body["kind"]]).validate_python(told)
    except (KeyError, ValidationError) as error:
        raise StoreError(f"{path} is altered: it does not read as connections ({error}); {MEND}") from error
