"""The settings that stand in a run folder, so that its name is all that a later command needs."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plainspoken.config import Config, load_config
from plainspoken.errors import RunError, UsageError

CONFIG, RUNS = "config.json", Path("runs")
_SHOWN = 4


def is_run_folder(root: Path) -> bool:
    """Whether a run was begun there."""
    return (Path(root) / CONFIG).is_file()


def run_folders(folder: Path) -> list[Path]:
    """Those that lie in a folder, by name."""
    return sorted(path for path in folder.glob("*") if is_run_folder(path))


def has_settings(root: Path) -> bool:
    """Whether the config.json there is a run's: a language model and many a coder have one, too."""
    try:
        stored_config(root)
    except UsageError:
        return False
    return True


def stored_config(root: Path, overrides: Sequence[str] = (), **values: Any) -> Config:
    """The settings that a run folder was made with, overridden; RunError where it is no run folder."""
    if not is_run_folder(root):
        raise RunError(f"{root} is no run folder (it has no {CONFIG}); {_mend(Path(root))}")
    return load_config(file=Path(root) / CONFIG, overrides=overrides, **values)


def _mend(root: Path) -> str:
    """The run folders that may have been meant, nearest first, and how one is made."""
    made = "plainspoken run (it goes to runs/pocket)" if root.exists() else f"plainspoken run --out {root}"
    around = dict.fromkeys(run for folder in (RUNS, root.parent, root) for run in run_folders(folder))
    if not around:
        return f"make one with: {made}"
    nearest = sorted(around, key=lambda run: -difflib.SequenceMatcher(None, run.name, root.name).ratio())
    others = f" and {len(nearest) - _SHOWN} more" if len(nearest) > _SHOWN else ""
    told = ", ".join(map(str, nearest[:_SHOWN]))
    return f"run folders here, nearest first: {told}{others}; or make one with: {made}"
