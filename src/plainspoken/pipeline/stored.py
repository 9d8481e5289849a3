"""The settings that stand in a run folder, so that its name is all that a later command needs."""

import difflib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plainspoken.config import Config, load_config
from plainspoken.errors import RunError, UsageError

CONFIG, RUNS = "config.json", Path("runs")
_SHOWN = 4


def is_run_folder(root: Path) -> bool:
    """Whether a run was begun there, as far as this user may look."""
    return os.path.isfile(Path(root) / CONFIG)  # that of Path raises where a folder may not be read


def run_folders(folder: Path) -> list[Path]:
    """Those that lie in a folder, by name; none where it may not be read."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in names if is_run_folder(folder / name)]


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
    there = os.path.exists(root)
    made = "plainspoken run (it goes to runs/pocket)" if there else f"plainspoken run --out {shlex.quote(str(root))}"
    around = dict.fromkeys(run for folder in (RUNS, root.parent, root) for run in run_folders(folder))
    if not around:
        return f"make one with: {made}"
    nearest = sorted(around, key=lambda run: -difflib.SequenceMatcher(None, run.name, root.name).ratio())
    others = f" and {len(nearest) - _SHOWN} more" if len(nearest) > _SHOWN else ""
    told = ", ".join(map(str, nearest[:_SHOWN]))
    return f"run folders here, nearest first: {told}{others}; or make one with: {made}"
