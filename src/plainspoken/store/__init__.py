"""The store: atomic writes, manifests, and stage folders that are either done, whole and ours, or refused by name."""

from plainspoken.store.atomic import read_json, sha256_file, write_atomic, write_json, write_text
from plainspoken.store.folder import StageFolder
from plainspoken.store.manifest import Manifest, StageKey

__all__ = [
    "Manifest",
    "StageFolder",
    "StageKey",
    "read_json",
    "sha256_file",
    "write_atomic",
    "write_json",
    "write_text",
]
