"""A graph comes back from its files as it went in, or not at all."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from graphs_made import made_graphs, same
from plainspoken.circuits.files import load_graph, remove_graph, save_graph
from plainspoken.circuits.graph import Graph, Node
from plainspoken.errors import StoreError
from plainspoken.store.manifest import digest


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@given(made_graphs())
@settings(max_examples=80)
def test_a_graph_comes_back_to_the_last_bit(graph: Graph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a [b]*.json")
        save_graph(graph, path)
        assert same(load_graph(path), graph)


def small(weight: float = 2.0) -> Graph:
    nodes = (Node("logit", None, 1, 7, label=" self", value=3.0), Node("token", position=0, index=4, label="def"))
    at = np.array([1]), np.array([0]), np.array([weight])
    return Graph(nodes, *at, np.array([1.0, 0]), np.zeros(2), np.ones(2), np.array([1, np.nan]), ("def", " f"))


def tensors(folder: Path) -> Path:
    (found,) = folder.glob("*.safetensors")
    return found


def test_one_graph_is_two_files_and_a_second_takes_their_place(tmp_path: Path) -> None:
    for weight in (2.0, 3.0):
        save_graph(small(weight), tmp_path / "g.json")
        assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"} and len(
            list(tmp_path.iterdir())
        ) == 2
        assert same(load_graph(tmp_path / "g.json"), small(weight))


def test_a_graph_that_is_removed_leaves_neither_file_and_no_other_graph_loses_one(tmp_path: Path) -> None:
    for name in ("graph.json", "graph-1.json"):
        save_graph(small(), tmp_path / name)
    remove_graph(tmp_path / "graph.json")
    assert load_graph(tmp_path / "graph-1.json").nodes == small().nodes and len(list(tmp_path.iterdir())) == 2
    remove_graph(tmp_path / "graph.json")  # which is not there


def test_what_is_truncated_altered_mixed_or_missing_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    save_graph(small(), path)
    whole, other = path.read_bytes(), tensors(tmp_path)
    path.write_bytes(whole[:-20])
    with pytest.raises(StoreError, match=r"g\.json is truncated"):
        load_graph(path)
    path.write_bytes(whole.replace(b"self", b"none"))
    with pytest.raises(StoreError, match=r"g\.json is altered: its content"):
        load_graph(path)
    path.write_bytes(whole)
    content = other.read_bytes()
    other.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=f"{other.name} is truncated"):
        load_graph(path)
    other.write_bytes(content[:-1] + b"\x01")
    with pytest.raises(StoreError, match=f"{other.name} is altered, or of another graph"):
        load_graph(path)
    other.unlink()
    with pytest.raises(StoreError, match=f"{other.name} is missing"):
        load_graph(path)
    with pytest.raises(StoreError, match=r"none\.json is missing"):
        load_graph(tmp_path / "none.json")


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The file changed by one who makes the hash fit."""
    body = json.loads(path.read_text())
    del body["sha256"]
    change(body)
    path.write_text(json.dumps(body | {"sha256": digest(body)}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda body: body.update(version=2), "is of version 2, and this program reads up to 1; update"),
        (lambda body: body.update(version="1"), "its `version` is '1'"),
        (lambda body: body.update(format="x"), "is no circuit"),
        (lambda body: body.update(unit="nats"), "neither own nor root"),
        (lambda body: body["nodes"].pop(), "where there are 1 nodes"),
        (lambda body: body["nodes"][0].update(kind="neuron"), "no kind of node is called 'neuron'"),
        (lambda body: body["nodes"][0].update(position=0), "is logit:7@0 by its place"),
        (lambda body: body["nodes"][0].update(position="1"), "no whole number"),
        (lambda body: body["nodes"].__setitem__(1, body["nodes"][0]), "two of its nodes have one id"),
        (lambda body: body["nodes"][0].update(colour="red"), "colour"),
        (lambda body: body["nodes"][0].update(value="many"), "many"),
        (lambda body: body["supernodes"].append({"name": "a", "nodes": [2]}), "a supernode names a node that"),
        (lambda body: body["tensors"].update(file="../up.safetensors"), "no name of a file beside it"),
        (lambda body: body.pop("tokens"), "tokens"),
    ],
)
def test_a_file_that_does_not_hold_together_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    path = tmp_path / "g.json"
    save_graph(small(), path)
    rewritten(path, change)
    with pytest.raises(StoreError) as raised:
        load_graph(path)
    assert told in str(raised.value) and "g.json" in str(raised.value)


def test_what_is_no_json_is_refused_and_the_old_graph_stays(tmp_path: Path) -> None:
    from dataclasses import replace

    path = tmp_path / "g.json"
    save_graph(small(), path)
    for about in ({"a": float("nan")}, {"a": np.zeros(2)}):
        with pytest.raises(StoreError, match="`about` holds what is no JSON"):
            save_graph(replace(small(3.0), about=about), path)
        assert same(load_graph(path), small())


KILLED = """
import os, signal, sys
from pathlib import Path
import plainspoken.circuits.files as files
from test_files import small
replace, when = os.replace, int(sys.argv[2])
def dying(*names):
    global when
    if when == 0: os.kill(os.getpid(), signal.SIGKILL)
    when -= 1
    return replace(*names)
os.replace = dying
files.save_graph(small(3.0), Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", [0, 1])
def test_a_kill_leaves_the_old_graph_whole(tmp_path: Path, when: int) -> None:
    path = tmp_path / "g.json"
    save_graph(small(), path)
    here = Path(__file__).parent
    found = os.pathsep.join([str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", KILLED, str(path), str(when)]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": found}).returncode == -signal.SIGKILL
    assert same(load_graph(path), small())
