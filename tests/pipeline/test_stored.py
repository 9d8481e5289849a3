"""A folder that is no run's is refused with the run folders that may have been meant, whatever lies around it."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plainspoken.errors import RunError
from plainspoken.pipeline.stored import has_settings, is_run_folder, run_folders, stored_config

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Within it this process may read what its modes allow, as root may anything."""
    before = os.geteuid()
    if before == 0:
        try:
            os.seteuid(NOBODY)
        except OSError as e:
            pytest.skip(f"this root cannot be another user: {e}")
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(before)


@pytest.fixture
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder to stand in, with a run and a folder beside it that nobody may look into."""
    for name in ("runs/mine", "runs/closed"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    for path in (tmp_path, tmp_path / "runs", tmp_path / "runs" / "mine"):
        path.chmod(0o755)
    (tmp_path / "runs" / "closed").chmod(0)
    monkeypatch.chdir(tmp_path)  # names from here, as the folders above are no one else's
    yield tmp_path / "runs"
    for path in (tmp_path / "runs", tmp_path / "runs" / "closed"):
        path.chmod(0o755)


@pytest.mark.parametrize("asked", ["runs/mien", "runs/closed", "runs/closed/deeper", "mien"])
def test_a_folder_that_cannot_be_read_does_not_hide_the_others(around: Path, asked: str) -> None:
    with unprivileged(), pytest.raises(RunError) as told:
        stored_config(Path(asked))
    assert "run folders here, nearest first: runs/mine; or make one with: plainspoken run" in str(told.value)


def test_what_cannot_be_read_is_no_run_folder_and_holds_none(around: Path) -> None:
    with unprivileged():
        assert [run_folders(Path(name)) for name in ("runs", "runs/closed")] == [[Path("runs/mine")], []]
        assert not is_run_folder(Path("runs/closed")) and not has_settings(Path("runs/closed"))
    around.chmod(0)
    with unprivileged(), pytest.raises(RunError, match=r"runs/new is no run folder .* plainspoken run --out runs/new"):
        stored_config(Path("runs/new"))


@pytest.mark.parametrize("named", ["my runs/new", "it's", "a;b", "$HOME"])
def test_the_command_that_makes_one_can_be_pasted(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError) as told:
        stored_config(Path(named))
    assert shlex.split(str(told.value).rsplit("make one with: ", 1)[1]) == ["plainspoken", "run", "--out", named]
