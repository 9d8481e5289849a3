"""The Python example of docs/circuits.md, run as it is written, gives the verb's graph and paths."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plainspoken import pipeline
from plainspoken.pipeline.stored import stored_config

DOCUMENT = Path(__file__).parents[2] / "docs" / "circuits.md"


def _example() -> str:
    """The first block of Python."""
    return DOCUMENT.read_text("utf-8").split("```python\n")[1].split("```")[0]


def test_the_example_prints_the_paths_that_the_verb_prints(
    two_coders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another run, and of a word that its small model knows: all that is done stands as it is."""
    run, written = Path(shutil.copytree(two_coders, tmp_path / "run")), _example()
    for there, here in (('"pocket"', repr(stored_config(run).lm.name)), ("runs/all", str(run)), ('"self"', '"s"')):
        assert written.count(there) == 1
        written = written.replace(there, here)
    capsys.readouterr()
    exec(compile(written, str(DOCUMENT), "exec"), made := dict[str, Any]())
    printed = capsys.readouterr().out.splitlines()
    found = pipeline.trace(run, "def f(", 'logit:"s"', paths=5, out=tmp_path / "out")
    [paths] = found.paths.values()
    assert printed == list(paths) and len(printed) == 5
    assert [node.id for node in made["graph"].nodes] == [node.id for node in found.graph.nodes]
    np.testing.assert_allclose(made["graph"].weight, found.graph.weight, rtol=1e-5)
