"""When signatures are checked while the tests run: always, but for slow tests under `--slow-unchecked`."""

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import zygote
from plainspoken.activations import ALONE
from plainspoken.rewrite.replay import with_output
from plainspoken.types import Site

ROOT = Path(__file__).parents[2]
PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
PROBED = """
import pytest
from plainspoken.types import Site


def is_checked() -> bool:
    try:
        Site(7, "mlp", 16, 16)
    except Exception:
        return True
    return False


@pytest.fixture(scope="session")
def shared() -> bool:
    return is_checked()


@pytest.fixture(scope="module")
def own() -> bool:
    return is_checked()


@pytest.mark.slow
def test_slow(own: bool, shared: bool) -> None:
    assert (is_checked(), own, shared) == ({slow}, {slow}, True)


def test_fast() -> None:
    assert is_checked()


@pytest.mark.slow
@pytest.mark.checked
def test_slow_and_checked() -> None:
    assert is_checked()
"""


def test_the_package_is_what_is_checked() -> None:
    with pytest.raises(TypeCheckError):
        Site(7, "mlp", 16, 16)  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError):
        type(ALONE)("first", 2)  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError):
        with_output(None, torch.zeros(2, 3))


@pytest.mark.parametrize(("words", "slow"), [([], True), (["--slow-unchecked"], False)])
def test_slow_tests_alone_go_without_and_only_where_that_is_asked_for(
    words: list[str], slow: bool, tmp_path: Path
) -> None:
    probed = tmp_path / "test_probed.py"
    probed.write_text(PROBED.replace("{slow}", str(slow)))
    command = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
        f"--confcutdir={tmp_path}",  # a conftest.py that anyone left above it is none of ours
        "-p",
        "conftest",
        *words,
        str(probed),
    ]
    elsewhere = {**os.environ, "PROBED": ""}  # or the fork would have imported the package, without the checks
    done = zygote.run(PROGRAM, *command, env=elsewhere, capture_output=True)
    assert done.returncode == 0 and "3 passed" in (done.stdout or ""), done
