"""What a checkpoint format is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plainspoken.coders.base import Coder, CoderSpec
from plainspoken.types import Site


@dataclass(frozen=True)
class CheckpointFormat:
    """How one project lays a coder down. Nothing in a checkpoint is ever executed.

    A path is a checkpoint's folder or its one file. `load` gives the coder on the CPU in float32, its parameters
    requiring no gradient, with every convention of the project folded into the weights, so that its output is the
    project's own; and the site as the checkpoint names it (where it names none: the name of its folder). `load` raises
    CoderError that names the file, what is wrong with it and the mend.
    """

    name: str
    what: str
    """Which coders it holds, for the help."""
    recognises: Callable[[Path], bool]
    """Whether a checkpoint of this format lies at the path."""
    files: Callable[[Path], Sequence[Path]]
    """The files that the checkpoint at the path is read from, first the one it is known by; others may be absent."""
    load: Callable[[Path], tuple[Coder, Site]]
    save: Callable[[Path, Coder, Site], None] | None
    """(folder, coder, site): raises CoderError, before anything is written, for what the format cannot express.
    None: it is read, not written."""
    becomes: Callable[[CoderSpec], str | None] = lambda spec: None
    """What a coder of this spec is called there, where it cannot be what it is here; None: it stays what it is."""
    settings: type | None = None
    """What its settings read as, where the name of their file tells nothing: a `config.json` lies in many a folder."""


def marked_by(mark: str, *others: str) -> Callable[[Path], bool]:
    """Recognises the folder that holds the file `mark`, and that file or one of the `others` in such a folder."""

    def recognises(path: Path) -> bool:
        return (path.is_dir() or path.name in (mark, *others)) and (folder_of(path) / mark).is_file()

    return recognises


def files_named(*names: str) -> Callable[[Path], Sequence[Path]]:
    """A format's files where they are always called the same."""

    def files(path: Path) -> Sequence[Path]:
        return [folder_of(path) / name for name in names]

    return files


def folder_of(path: Path) -> Path:
    """The folder that a checkpoint's files lie in, whether it or one of them was named."""
    return path if path.is_dir() else path.parent


def site_of(coder: Coder, module: str) -> Site:
    """Where such a coder reads and writes: a transcoder an FFN, an sae what it reconstructs."""
    kind = "mlp" if coder.spec.kind == "transcoder" else "resid"
    return Site(module, kind, coder.spec.d_in, coder.spec.d_out)
