"""What a stage leaves beside its outputs: from what, with which settings and versions, and the hash of every file."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from plainspoken.errors import StoreError
from plainspoken.store.atomic import REDO, read_json, write_json


def digest(value: Any) -> str:
    """SHA-256 of a value as canonical JSON: the same for equal values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class StageKey:
    """All that a stage's outputs depend on: its settings, its inputs' hashes, and the version of its code."""

    stage: str
    site: str | None
    """Module path where the stage works on one site; None where it works on the whole run."""
    version: int
    config: Mapping[str, Any]
    """The settings that the stage reads, dotted name to value."""
    inputs: Mapping[str, str]
    """Name of an input to the hash of its content."""

    @property
    def digest(self) -> str:
        """One hash over everything above."""
        return digest(asdict(self))

    @property
    def name(self) -> str:
        """How messages call it: `train` or `train/gpt_neox.layers.2.mlp`."""
        return self.stage if self.site is None else f"{self.stage}/{self.site}"


def setting_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`coder.k: 16 → 32` for every setting that differs, in order of name; a setting on one side only is `absent`."""
    names = sorted({*old, *new})
    show = {name: [_shown(tree[name]) if name in tree else "absent" for tree in (old, new)] for name in names}
    return [f"{name}: {before} → {after}" for name, (before, after) in show.items() if before != after]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value is not None else "none"


@dataclass(frozen=True)
class Manifest:
    """A stage folder's manifest.json. Its presence says that the stage is done; it is written last."""

    stage: str
    site: str | None
    key: str
    stage_version: int
    config: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, dict[str, Any]]
    """Path below the folder to {"sha256": ..., "bytes": ...}."""
    versions: dict[str, str]
    seed: int
    counts: dict[str, Any] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    """Wall time of the attempt that finished, seconds."""
    peak_memory_mb: float = 0.0
    """Largest resident memory of the process up to the end of the stage, MB."""
    finished: str = ""
    """When, ISO 8601 with offset."""

    @property
    def output_digest(self) -> str:
        """One hash over all outputs: what a later stage takes as this stage's content."""
        return digest({path: entry["sha256"] for path, entry in self.outputs.items()})

    def save(self, path: Path) -> None:
        """Write atomically, with a hash over the rest so that an altered manifest is told from a whole one."""
        tree = asdict(self)
        write_json(path, {**tree, "manifest_sha256": digest(tree)})

    @staticmethod
    def load(path: Path) -> "Manifest":
        """Read back; StoreError names a manifest that is truncated or altered."""
        tree = read_json(path)
        known = {f.name for f in fields(Manifest)}
        if not isinstance(tree, dict) or set(tree) != known | {"manifest_sha256"}:
            raise StoreError(
                f"{path} is altered, or was written by another version of plainspoken: its fields differ; {REDO}"
            )
        if tree.pop("manifest_sha256") != digest(tree):
            raise StoreError(f"{path} is altered: its content does not match its own hash; {REDO}")
        return Manifest(**tree)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for name in ("plainspoken", "torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
