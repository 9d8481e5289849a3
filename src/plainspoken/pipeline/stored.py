"""The settings that stand in a run folder, so that its name is all that a later command needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plainspoken.config import Config, load_config
from plainspoken.errors import RunError, UsageError

CONFIG = "config.json"


def is_run_folder(root: Path) -> bool:
    """Whether a run was begun there."""
    return (Path(root) / CONFIG).is_file()


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
        raise RunError(f"{root} is no run folder (it has no {CONFIG}); make one with: plainspoken run --out {root}")
    return load_config(file=Path(root) / CONFIG, overrides=overrides, **values)
