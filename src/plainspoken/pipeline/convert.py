"""Convert: coders from any format that is read into one that is written, a run's own coders among them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from plainspoken.coders import FORMATS, CoderSpec, format_of, is_coder, load_any
from plainspoken.errors import UsageError
from plainspoken.pipeline.coder_source import require_trained
from plainspoken.pipeline.stored import is_run_folder
from plainspoken.types import Site


@dataclass(frozen=True)
class Converted:
    """One coder as it was written."""

    source: Path
    format: str
    """Of the source."""
    target: Path
    spec: CoderSpec
    site: Site
    becomes: str | None
    """What it is called in the format it was written in, where it cannot be what it was."""


def convert(source: Path, target: Path, to: str, site: str | None = None) -> Iterator[Converted]:
    """Writes the coder at `source` into the folder `target` in the format `to`, and tells of each as soon as it stands.

    source: a checkpoint in any format of `FORMATS`, or a run folder: then the coders of all its sites, or of `site`.
    target: new or empty; several coders get a folder each in it, named after their modules.
    Raises UsageError for what cannot be asked for and CoderError for a checkpoint that came to harm or that `to` cannot
    express; the output of what is written is that of what was read.
    """
    form = FORMATS.get(to)
    if form is None or form.save is None:
        kept = ", ".join(each.name for each in FORMATS.values() if each.save is not None)
        raise UsageError(f"--to {to}: no format that is written; there are: {kept}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty; name a new folder, or clear it away")
    for folder, path in _sources(source, target, site).items():
        coder, where, name = load_any(path)
        form.save(folder, coder, where)
        yield Converted(path, name, folder, coder.spec, where, form.becomes(coder.spec))


def _sources(source: Path, target: Path, site: str | None) -> Mapping[Path, Path]:
    """Folder to be written to checkpoint that goes there."""
    run = is_run_folder(source) and not is_coder(source)
    trained = {path.parent.name: path.parent for path in sorted(source.glob("train/*/coder.json"))} if run else {}
    if not trained:
        require_trained(source, source)
        format_of(source)  # tells where there is none, and of those further down
        if site is not None:
            raise UsageError(f"--site goes with a run folder, and {source} is none; leave it out")
        return {target: source}
    if site is not None and site not in trained:
        raise UsageError(f"{site} is no site of {source}; its sites: {', '.join(trained)}")
    chosen = trained if site is None else {site: trained[site]}
    return {target / module if len(chosen) > 1 else target: path for module, path in chosen.items()}
