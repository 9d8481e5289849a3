"""One stage's folder: begun under a key, filled by the stage, committed by its manifest, verified before every use."""

import datetime
import os
import resource
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plainspoken.errors import StoreError
from plainspoken.store.atomic import PART_SUFFIX, read_json, sha256_file, sync_file, sync_folder, write_json
from plainspoken.store.manifest import Manifest, StageKey, versions

MANIFEST = "manifest.json"
STARTED = "started.json"


class StageFolder:
    """The folder of a stage (or of a stage at one site) and what may be said of its state.

    not begun -> begin(key) -> started (files appear) -> commit(key) -> done. A kill leaves it started; the next
    begin with the same key keeps the files, so that a stage with checkpoints resumes; any other key clears them.
    `editable` names files that people may change: they are kept out of the hashes and never cleared away.
    `beside` names outputs that lie outside the folder, by their path from it.
    """

    def __init__(self, path: Path, editable: Collection[str] = (), beside: Collection[str] = ()) -> None:
        self.path = Path(path)
        self.editable = frozenset(editable)
        self.beside = tuple(beside)

    def manifest(self) -> Manifest | None:
        """The manifest, or None when the stage is not done."""
        path = self.path / MANIFEST
        return Manifest.load(path) if path.exists() else None

    def settings(self) -> Mapping[str, Any] | None:
        """The settings that the folder was made or begun with; None when it was never begun."""
        manifest = self.manifest()
        if manifest is not None:
            return {**manifest.config, "stage version": manifest.stage_version}
        if not (self.path / STARTED).exists():
            return None
        started = read_json(self.path / STARTED)
        return {**started["config"], "stage version": started["stage_version"]}

    def is_done(self, key: StageKey) -> bool:
        """Whether the stage stands finished under exactly this key."""
        manifest = self.manifest()
        return manifest is not None and manifest.key == key.digest

    def verify(self) -> Manifest:
        """The manifest, after every output has been read again; StoreError names a file that is not as it was left."""
        manifest = self.manifest()
        if manifest is None:
            raise StoreError(
                f"{self.path} is not finished: it has no {MANIFEST}; bring it up with: plainspoken run "
                "and the run folder"
            )
        for name, entry in manifest.outputs.items():
            self._verify_file(name, entry, manifest.stage)
        return manifest

    def _verify_file(self, name: str, entry: Mapping[str, Any], stage: str) -> None:
        path = Path(os.path.normpath(self.path / name))
        mend = f"put the file back, or make it anew with --force {stage}"
        if not path.is_file():
            raise StoreError(f"{path} is missing; {mend}")
        size = path.stat().st_size
        if size != entry["bytes"]:
            what = "truncated" if size < entry["bytes"] else "altered"
            raise StoreError(f"{path} is {what}: {size:,} bytes where the manifest says {entry['bytes']:,}; {mend}")
        if sha256_file(path) != entry["sha256"]:
            raise StoreError(f"{path} is altered: its SHA-256 is not the manifest's; {mend}")

    def begin(self, key: StageKey, keep: Iterable[str] = ()) -> None:
        """Open the folder for work under this key; what another key left is cleared, but for the names in `keep`."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / MANIFEST).unlink(missing_ok=True)
        sync_folder(self.path)
        started = self.path / STARTED
        if not started.exists() or read_json(started)["key"] != key.digest:
            self._clear({*keep, *self.editable})
        record = {"stage": key.stage, "site": key.site, "key": key.digest, "stage_version": key.version}
        write_json(started, {**record, "config": dict(key.config), "inputs": dict(key.inputs)})

    def invalidate(self) -> None:
        """Forget that the stage was ever done or begun; its editable files stay, everything else goes."""
        if self.path.is_dir():
            (self.path / MANIFEST).unlink(missing_ok=True)
            self._clear(self.editable)

    def abandon(self) -> None:
        """Forget that the stage was ever begun, and leave no folder where nothing stands in it."""
        self.invalidate()
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def _clear(self, keep: Collection[str]) -> None:
        for path in self.path.iterdir():
            if path.name in keep:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def commit(
        self,
        key: StageKey,
        *,
        seed: int,
        seconds: float,
        counts: Mapping[str, Any] | None = None,
        failures: Iterable[Mapping[str, Any]] = (),
    ) -> Manifest:
        """Bring every file to the disk, hash it, and write the manifest: from here on the stage is done."""
        manifest = Manifest(
            stage=key.stage,
            site=key.site,
            key=key.digest,
            stage_version=key.version,
            config=dict(key.config),
            inputs=dict(key.inputs),
            outputs={name: self._sealed(name) for name in sorted(self._outputs())},
            versions=versions(),
            seed=seed,
            counts=dict(counts or {}),
            failures=[dict(failure) for failure in failures],
            seconds=round(seconds, 3),
            peak_memory_mb=round(peak_memory_bytes() / 1e6, 1),
            finished=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        manifest.save(self.path / MANIFEST)
        (self.path / STARTED).unlink(missing_ok=True)
        return manifest

    def _outputs(self) -> Iterator[str]:
        """Every file below the folder that is an output; half-written files are swept away on the way."""
        yield from self.beside
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = Path(folder) / name
                below = path.relative_to(self.path).as_posix()
                if name.endswith(PART_SUFFIX) and name.startswith("."):
                    path.unlink()
                elif below not in {MANIFEST, STARTED, *self.editable}:
                    yield below

    def _sealed(self, name: str) -> dict[str, Any]:
        path = self.path / name
        sync_file(path)
        return {"sha256": sha256_file(path), "bytes": path.stat().st_size}


def peak_memory_bytes() -> int:
    """The largest resident memory that this process has had, or one of its children that have ended, bytes."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024
