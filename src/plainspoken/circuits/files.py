"""A graph as two files: JSON for what it says, safetensors for its numbers, each with the other's hash or its own.

The JSON is written last and names its tensors by a name that holds their hash, so that a kill at any moment leaves
the old graph or the new one, whole. Nothing that is read is executed. docs/circuits-format.md tells every field.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from plainspoken.circuits.graph import Graph, Node, NodeKind
from plainspoken.errors import StoreError
from plainspoken.store import read_json, sha256_file, write_atomic
from plainspoken.store.manifest import digest

FORMAT, VERSION = "plainspoken circuit", 1
MEND = "put the file back, or trace the circuit again"

_EDGES, _BY_NODE = ("source", "target", "weight"), ("offset", "rest", "influence", "explained")
_UNITS = ("own", "root")
# JSON has no numbers that are not finite; these words stand for them, where a number is due.
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NUMBERS = ("value", "activation", "fidelity")
_WHOLE = ("layer", "position", "index", "reads")


def save_graph(graph: Graph, path: Path) -> None:
    """Write `path` (JSON) and, beside it, NAME-HASH.safetensors; what an older graph had there is removed.

    Raises StoreError when the disk refuses, or where `about` holds what is no JSON.
    """
    path = Path(path)
    arrays = {name: np.ascontiguousarray(getattr(graph, name)) for name in (*_EDGES, *_BY_NODE)}
    content = save(arrays)
    sha256 = hashlib.sha256(content).hexdigest()
    tensors = path.with_name(f"{path.stem}-{sha256[:12]}.safetensors")
    body = _body(graph) | {"tensors": {"file": tensors.name, "sha256": sha256, "bytes": len(content)}}
    try:
        text = json.dumps(body | {"sha256": digest(body)}, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: the graph's `about` holds what is no JSON ({error}); leave it out") from error
    with write_atomic(tensors) as file:
        file.write(content)
    with write_atomic(path) as file:
        # Within a JSON string, the escape of a stray surrogate is JSON's own.
        file.write((text + "\n").encode("utf-8", "backslashreplace"))
    for old in _tensors_of(path):
        if old != tensors:
            old.unlink()


def remove_graph(path: Path) -> None:
    """Remove what `save_graph` wrote to this path, where it did: the JSON first, so that no graph is left by halves."""
    path = Path(path)
    path.unlink(missing_ok=True)
    for tensors in _tensors_of(path):
        tensors.unlink()


def load_graph(path: Path) -> Graph:
    """The graph that `save_graph` wrote, to the last bit.

    Raises StoreError, by the file's name, for what is missing, truncated, altered, of another graph, or newer.
    """
    path = Path(path)
    body = read_json(path)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise StoreError(
            f"{path} is no circuit: its `format` is not '{FORMAT}'; name the JSON file of a traced circuit"
        )
    version = body.get("version")
    if not isinstance(version, int) or version < 1:
        raise StoreError(f"{path} is altered: its `version` is {version!r}; {MEND}")
    if version > VERSION:
        raise StoreError(f"{path} is of version {version}, and this program reads up to {VERSION}; update plainspoken")
    if digest({name: value for name, value in body.items() if name != "sha256"}) != body.get("sha256"):
        raise StoreError(f"{path} is altered: its content does not have the hash that it names; {MEND}")
    try:
        arrays = _arrays(path, body["tensors"])
        return _graph(body, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is altered: {error}; {MEND}") from error


def _body(graph: Graph) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "unit": graph.unit,
        "tokens": list(graph.tokens),
        "nodes": [_told(node) for node in graph.nodes],
        "supernodes": [{"name": name, "nodes": [int(i) for i in members]} for name, members in graph.supernodes],
        "about": graph.about,
    }


def _told(node: Node) -> dict[str, Any]:
    """What is not as a node has it by itself; its id, for readers that build none."""
    told: dict[str, Any] = {"id": node.id, "kind": node.kind}
    for each in fields(Node):
        value = getattr(node, each.name)
        if each.name != "kind" and value != each.default:
            told[each.name] = _number(value) if each.name in _NUMBERS else value
    return told


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _arrays(path: Path, told: Mapping[str, Any]) -> dict[str, np.ndarray]:
    name = told["file"]
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"its tensors' file {name!r} is no name of a file beside it")
    tensors = path.with_name(name)
    if not tensors.is_file():
        raise StoreError(f"{tensors} is missing: {path.name} keeps its numbers there; {MEND}")
    size = tensors.stat().st_size
    if size != told["bytes"]:
        what = "truncated" if size < told["bytes"] else "altered"
        raise StoreError(f"{tensors} is {what}: {size:,} bytes where {path.name} says {told['bytes']:,}; {MEND}")
    if sha256_file(tensors) != told["sha256"]:
        raise StoreError(f"{tensors} is altered, or of another graph: {path.name} names another SHA-256; {MEND}")
    try:
        return load(tensors.read_bytes())
    except SafetensorError as error:
        raise StoreError(f"{tensors} does not read as safetensors ({error}); {MEND}") from error


def _graph(body: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Graph:
    nodes = tuple(map(_node, body["nodes"]))
    for names, length, of in ((_EDGES, len(arrays["source"]), "edges"), (_BY_NODE, len(nodes), "nodes")):
        for name in names:
            if arrays[name].shape != (length,):
                raise ValueError(f"`{name}` has the shape {arrays[name].shape} where there are {length} {of}")
    for name in ("source", "target"):
        ends = arrays[name]
        if len(ends) and (ends.dtype.kind != "i" or ends.min() < 0 or ends.max() >= len(nodes)):
            raise ValueError(f"`{name}` names a node that is not there")
    if body["unit"] not in _UNITS:
        raise ValueError(f"`unit` is {body['unit']!r}, which is neither own nor root")
    if len({node.id for node in nodes}) != len(nodes):
        raise ValueError("two of its nodes have one id")
    supernodes = tuple((each["name"], tuple(each["nodes"])) for each in body["supernodes"])
    if any(not 0 <= i < len(nodes) for _, members in supernodes for i in members):
        raise ValueError("a supernode names a node that is not there")
    return Graph(
        nodes=nodes,
        **{name: arrays[name] for name in (*_EDGES, *_BY_NODE)},
        tokens=tuple(body["tokens"]),
        unit=body["unit"],
        about=body["about"],
        supernodes=supernodes,
    )


def _node(told: Mapping[str, Any]) -> Node:
    if told["kind"] not in get_args(NodeKind):
        raise ValueError(f"no kind of node is called {told['kind']!r}")
    values = {name: value for name, value in told.items() if name != "id"}
    for name in _NUMBERS:
        if isinstance(values.get(name), str):
            values[name] = _WORDS[values[name]]
    if any(not isinstance(values.get(name, 0), int) for name in _WHOLE):
        raise ValueError(f"node {told['id']} has a place that is no whole number")
    node = Node(**values)
    if node.id != told["id"]:
        raise ValueError(f"node {told['id']} is {node.id} by its place")
    return node


def _tensors_of(path: Path) -> list[Path]:
    """The tensors' files, by their names, of all graphs that were written to this path."""
    return list(path.parent.glob(f"{_literal(path.stem)}-{'[0-9a-f]' * 12}.safetensors"))


def _literal(name: str) -> str:
    """The name in a glob pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
