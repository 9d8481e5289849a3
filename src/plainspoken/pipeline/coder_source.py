"""Where the coder of a site lies in what `coder.load` names: a file or folder here, or a repository on the hub."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plainspoken.coders import checkpoints_below, is_coder
from plainspoken.config.named import short_name
from plainspoken.errors import CoderError, UsageError
from plainspoken.language.counted import counted
from plainspoken.pipeline.hub import Fetched, fetch, hub_name
from plainspoken.pipeline.stored import has_settings, is_run_folder


@dataclass(frozen=True)
class CoderSource:
    """What `coder.load` names: the `path` of its files; where the hub has them, what was `fetched` from there."""

    path: Path
    fetched: Fetched | None = None

    def name_of(self, path: Path) -> str:
        """What a coder in it is called, wherever it lies on this machine; of the hub's with its commit."""
        if self.fetched is None:
            return short_name(str(path))
        return self.fetched.name.at(self.fetched.commit, path.relative_to(self.path).as_posix().removeprefix("."))


def coder_source(load: str, sites: Sequence[str]) -> CoderSource:
    """Where `coder.load` leads; from the hub the coders of these sites are fetched. Raises as `fetch` does."""
    name = hub_name(load)
    if name is None:
        return CoderSource(Path(load))
    fetched = fetch(name, sites)
    return CoderSource(fetched.path, fetched)


def coder_path(given: Path, site: str, sites: Sequence[str]) -> Path:
    """`coder.load` itself, or the folder in it that is named after the site; another run's coder of that site.

    The folder may leave out the first parts of the module's path (`layers.3.mlp` for `gpt_neox.layers.3.mlp`), as
    sparsify does. CoderError where there is none for this one of several sites, or one for two of them; of one site,
    whoever reads it tells.
    """
    if is_coder(given):
        if len(sites) > 1:
            raise CoderError(
                f"coder.load names one coder ({given}), but there are {counted(len(sites), 'site')}; name a folder "
                "that holds one for each, in folders named after the sites"
            )
        return given
    above = given / "train" if is_run_folder(given) else given
    folders = sorted(path.name for path in above.iterdir() if path.is_dir()) if above.is_dir() else []
    found = _nearest(site, folders)
    if found is not None:
        if others := [other for other in sites if other != site and _nearest(other, folders) == found]:
            raise CoderError(
                f"{above / found} fits both {site} and {others[0]}; give each site a folder of its own, named by as "
                "many of the last parts of its path as no other site ends with"
            )
        return above / found
    if len(sites) > 1 and folders:
        raise CoderError(f"{above} has no folder for {site}; there are: {', '.join(folders)}")
    return given


def require_trained(given: Path, path: Path) -> None:
    """UsageError where `coder.load` is a run that has no coder yet at the path that is looked for in it.

    Not so the folder of a comparison, whose coders lie further down: whoever reads it names them.
    """
    if not is_coder(path) and has_settings(given) and not any(below.is_dir() for below in checkpoints_below(path)):
        raise UsageError(f"{given} has no coder yet; train one with: plainspoken train {shlex.quote(str(given))}")


def _nearest(site: str, folders: Sequence[str]) -> str | None:
    """The folder that is named after most of a site's module."""
    return max((name for name in folders if f".{site}".endswith(f".{name}")), key=len, default=None)
