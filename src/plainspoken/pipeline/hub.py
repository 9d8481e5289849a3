"""Coders by their name on the Hugging Face hub: fetched, or found in the hub's cache on this machine.

`ORG/NAME`, `ORG/NAME/FOLDER` or either with `@REVISION`: of such a repository only the settings and safetensors of the
sites that are asked for are fetched, never a pickle; without a network (or with HF_HUB_OFFLINE=1) the cache serves.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plainspoken.errors import CoderError
from plainspoken.hub import quietly, reason, require_readable, tell_cached, why_away

_PART = r"[A-Za-z0-9_][\w.-]*"
_NAME = re.compile(rf"({_PART}/{_PART})((?:/{_PART})*)(?:@([\w./-]+))?")
_SHOWN = 4


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, the folder in it ("" for itself), and a branch, tag or commit (None: main)."""

    repository: str
    folder: str
    revision: str | None

    def __str__(self) -> str:
        return self.at(self.revision)

    def at(self, revision: str | None, below: str = "") -> str:
        """The name, with the part `below` its folder, as it is at a revision."""
        path = "/".join(part for part in (self.repository, self.folder, below) if part)
        return path if revision is None else f"{path}@{revision}"


@dataclass(frozen=True)
class Fetched:
    """What the hub has under a name: its files that were asked for lie below `path`. `commit`: that they are of."""

    name: HubName
    path: Path
    commit: str


def hub_name(given: str) -> HubName | None:
    """What a text names on the hub; None where a file or folder here is called so, or where it can be no such name."""
    found = _NAME.fullmatch(given)
    if found is None or Path(given).exists():
        return None
    return HubName(found[1], found[2].removeprefix("/"), found[3])


def fetch(name: HubName, modules: Sequence[str]) -> Fetched:
    """The checkpoints of these modules (sites), in folders named after them or the last parts of their paths, or one.

    Raises CoderError where the hub cannot be reached and its cache has nothing of it, where there is no such repository
    or revision, and where it holds no coder for any of the modules; ConfigError as `require_readable` does.
    """
    require_readable()
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage] (httpx's or httpx2's)

    wanted = [f"{name.folder}/{file}".removeprefix("/") for file in _files(modules)]
    away = why_away()
    try:
        with quietly():
            snapshot = Path(
                huggingface_hub.snapshot_download(
                    name.repository, revision=name.revision, allow_patterns=wanted, local_files_only=away is not None
                )
            )
    except (OSError, ValueError, HTTPError) as error:
        raise CoderError(
            f"there is no {name} here, and the hub's coder of that name is not in the cache and cannot be fetched "
            f"({away or reason(error)}); check the name and the connection, or fetch it elsewhere (hf download "
            f"{name.repository} --local-dir FOLDER), copy the folder here and name that"
        ) from error
    if not any((snapshot / file).is_file() for file in wanted):
        shown = ", ".join(wanted[:_SHOWN])
        raise CoderError(
            f"{name.at(snapshot.name)} on the hub has no coder for {', '.join(modules)}, or its copy in the cache "
            f"lacks it: none of {shown} and the like; name another site, or the coder's own folder: ORG/NAME/FOLDER"
        )
    if away is not None:
        tell_cached(str(name), away)
    return Fetched(name, snapshot / name.folder, snapshot.name)


def _files(modules: Sequence[str]) -> Iterator[str]:
    """Every file that a checkpoint of these modules may consist of, by its place in the repository."""
    from plainspoken.coders import FORMATS

    # The formats whose files have names of their own and are no pickles.
    files = [file.name for form in ("sparsify", "plainspoken", "saelens") for file in FORMATS[form].files(Path())]
    folders = [module.split(".", start)[-1] for module in modules for start in range(module.count(".") + 1)]
    for folder in dict.fromkeys((*folders, "")):
        yield from (f"{folder}/{file}".removeprefix("/") for file in dict.fromkeys(files))
