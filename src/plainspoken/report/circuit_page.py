"""A circuit drawn: one self-contained HTML file with a grid of tokens and layers, and all edges on demand.

Nodes are drawn here, edges by a script of the page's own from arrays of 13 bytes an edge (before base64), strongest
first, so that a page of 40,000 edges stays below a megabyte and draws a few hundred until more are asked for. The page
loads nothing, runs no script but its own (its hash stands in the policy), and shows a table of the strongest edges to
readers without one.
"""

import base64
import json
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from plainspoken.circuits.beside import brackets_told, logit_told, said_of
from plainspoken.circuits.files import load_graph
from plainspoken.circuits.graph import Graph, Node, NodeKind
from plainspoken.circuits.lines import DIFFERENCE, node_words, path_lines, sentences_of, signed, strongest_paths
from plainspoken.errors import UsageError
from plainspoken.report import numbers
from plainspoken.report.circuit_layout import HEIGHT, WIDE, Box, Layout, layout
from plainspoken.report.edge_strength import strongest_edges
from plainspoken.report.pages import as_json, rendered
from plainspoken.report.tokens import visible
from plainspoken.store import write_text

DRAWN = 100
"""Edges that are drawn before more are asked for."""
_SIMULATED = ", as the sentences have it"
_GROUPED = ", what stands at several tokens as one node"
_LEVEL = re.compile(r"^Fires\s+(?:at\s+)?\d\s+on\s+(?:the token (?=“))?")
"""What the controlled English puts in front of every sentence, so that a box's few letters would tell nothing else."""
TABLED, PATHS = 60, 12
"""Edges in the table, and paths told as lines."""
_KINDS = {
    "token": "token",
    "position": "position",
    "attention_bias": "bias of attention, at all tokens together",
    "ffn_bias": "bias of the FFN, at all tokens together",
    "error": "error: what the FFN puts out beyond its coder",
    "latent": "latent",
    "head": "attention head",
    "skip": "skip: the coder’s linear path",
    "logit": "logit: the next token",
    "direction": "direction",
    "own_bias": "its own bias",
    "group": "nodes that belong together",
}


@dataclass(frozen=True)
class Drawn:
    """A node as the page draws it: `label` in the box, `words` in its tooltip."""

    number: int
    kind: str
    box: Box
    label: str
    words: str


@runtime_checkable
class Parted(Protocol):
    """A latent at a token whose influence differs where activations are simulated from sentences."""

    @property
    def node(self) -> Node: ...
    @property
    def true(self) -> float: ...
    @property
    def simulated(self) -> float: ...
    @property
    def true_share(self) -> float | None: ...
    @property
    def simulated_share(self) -> float | None: ...


def render_circuit(graph: Graph, parts: Sequence[Parted] = (), title: str = "") -> str:
    """The page as text; the same graph gives the same bytes.

    `parts`: where the circuits of true and of simulated activations part, told in a table. `title`: by default what is
    explained.
    """
    graph, simulated = _widened(graph), bool(graph.about.get("settings", {}).get("simulated"))
    tokens = [_shown(token) for token in graph.tokens]
    placed, order, level = layout(graph, tokens), *strongest_edges(graph)
    paths, on_them = _paths(graph)
    return rendered(
        "circuit.html",
        script="circuit.js",
        title=title
        or f"What leads to {_roots(graph)}{_SIMULATED if simulated else ''}{_GROUPED if _has_groups(graph) else ''}",
        tokens=tokens,
        layout=placed,
        height=HEIGHT,
        nodes=_drawn(graph, placed),
        edges=numbers.count(len(graph.weight)),
        drawn=min(DRAWN, len(graph.weight)),
        unit=graph.unit,
        paths=paths,
        sentences=list(sentences_of(on_them).items()),
        table=[_row(graph, int(edge)) for edge in order[:TABLED]],
        parts=[_parted(graph, part) for part in parts],
        brackets=brackets_told(map(said_of, graph.nodes), graph.about),
        about=[(name, _plain(value)) for name, value in graph.about.items()],
        data=as_json(_data(graph, placed, order, level)),
    )


def write_circuit_page(graph: Graph | Path, path: Path, parts: Sequence[Parted] = (), title: str = "") -> None:
    """Write the page of a graph, or of the graph in these files, atomically. StoreError where either cannot be."""
    write_text(path, render_circuit(load_graph(graph) if isinstance(graph, Path) else graph, parts, title))


def _widened(graph: Graph) -> Graph:
    """The same in float64, which is Python's float."""
    arrays = ("weight", "offset", "rest", "influence", "explained")
    return replace(graph, **{name: getattr(graph, name).astype(np.float64) for name in arrays})


def _data(graph: Graph, placed: Layout, order: Int[np.ndarray, " e"], level: UInt8[np.ndarray, " e"]) -> dict[str, Any]:
    ends = np.uint16 if len(graph.nodes) < 2**16 else np.uint32
    errors, biases = _from(graph, ("error",)), _from(graph, ("attention_bias", "ffn_bias"))
    groups = {i: name for name, members in reversed(graph.supernodes) for i in members}
    return {
        "nodes": [_facts(graph, i, groups.get(i), errors[i], biases[i]) for i in range(len(graph.nodes))],
        "boxes": [[box.x, box.y, box.width] for box in placed.boxes],
        "wide": len(graph.nodes) >= 2**16,
        "source": _packed(graph.source[order].astype(ends)),
        "target": _packed(graph.target[order].astype(ends)),
        "weight": _packed(graph.weight[order].astype(np.float32)),
        "level": _packed(level),
        "height": HEIGHT,
    }


def _facts(graph: Graph, i: int, group: str | None, errors: float, biases: float) -> list[Any]:
    """[words, id, kind, explanation, pairs of what is known and its number, how well the explanation foretells]."""
    node = graph.nodes[i]
    known: list[tuple[str, str]] = []
    if node.activation is not None and node.kind == "latent":
        known.append(("activation", numbers.fixed(node.activation, 3)))
    if node.value is not None:
        form = logit_told(node, graph.about, difference=bool(DIFFERENCE.fullmatch(node.label)))
        known.append((f"value, {form}" if form else "value", _signed(node.value)))
        known.append(("explained", numbers.percent(float(graph.explained[i]))))
        known.append(("own bias", _signed(float(graph.offset[i]))))
        known.append(("pruned", _signed(float(graph.rest[i]))))
        known.append(("by errors", _signed(errors)))
        known.append(("by biases", _signed(biases)))
    if node.fidelity is not None:
        measure = str(graph.about.get("fidelity_of", "")) or "measure not told"
        known.append((f"fidelity ({measure})", numbers.fixed(node.fidelity, 3)))
    known.append(("influence", numbers.percent(float(graph.influence[i]), 1)))
    if group is not None:
        known.append(("belongs to", group))
    return [_words(graph, node), node.id, _KINDS[node.kind], node.text or "", known, said_of(node).brackets]


def _from(graph: Graph, kinds: tuple[NodeKind, ...]) -> Float[np.ndarray, " n"]:
    """What enters each node by edges from nodes of these kinds."""
    some = np.array([node.kind in kinds for node in graph.nodes], bool)[graph.source]
    return np.bincount(graph.target[some], graph.weight[some], len(graph.nodes)).astype(np.float64)


def _drawn(graph: Graph, placed: Layout) -> list[Drawn]:
    found = []
    for i, (node, box) in enumerate(zip(graph.nodes, placed.boxes, strict=True)):
        words = _words(graph, node) + (f": {node.text}{said_of(node).brackets}" if node.text else "")
        kind = node.kind.replace("_", "-")
        found.append(Drawn(i, kind, box, _label(graph, node, box.width >= WIDE), words))
    return found


def _label(graph: Graph, node: Node, wide: bool) -> str:
    """What fits a box."""
    match node.kind:
        case "latent" | "group":
            name = node.label if node.kind == "group" else str(node.index)
            label = name + (f" {_LEVEL.sub('', node.text)}" if wide and node.text else "")
        case "token" | "logit" | "direction":
            label = _shown(node.label) if node.label else node.kind if node.index is None else f"#{node.index}"
        case "head":
            label = f"h{node.index} ←@{node.position}"
        case "attention_bias":
            label = "bias of attention" if wide else "b attn"
        case "ffn_bias":
            label = "bias of FFN" if wide else "b FFN"
        case _:
            label = node.kind if wide else {"position": "pos", "error": "error", "skip": "skip"}[node.kind]
    return _cut(label, 20 if wide else 7)


def _cut(text: str, columns: int) -> str:
    """The text up to a width, in letters; wide characters are two."""
    used = 0
    for place, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns:
            return text[: max(1, place - 1)].rstrip() + "…"
    return text


def _shown(token: str) -> str:
    """A token's text with its spaces and line ends to be seen."""
    shown = visible(token.encode("utf-8", "backslashreplace"))
    return shown.replace(" ", "␣") if shown != shown.strip() or not shown.strip("␣") else shown or "∅"


def _words(graph: Graph, node: Node) -> str:
    return node_words(replace(node, text=None), graph.tokens)


def _roots(graph: Graph) -> str:
    """What is explained, as a title has it."""
    into = set(graph.target.tolist()) - set(graph.source.tolist())
    roots = [node for i, node in enumerate(graph.nodes) if node.kind in ("logit", "direction") or i in into]
    if len(roots) > 1 and {(node.kind, node.position) for node in roots} == {("logit", roots[0].position)}:
        return f"logits of {_first([_spelled(node) for node in roots])}{_after(graph, roots[0])}"
    return _first([_root(graph, node) for node in roots])


def _first(names: Sequence[str]) -> str:
    more = [f"{len(names) - 3} more"] if len(names) > 3 else []
    return numbers.listing([*names[:3], *more]) if names else "nothing"


def _root(graph: Graph, node: Node) -> str:
    if node.kind == "logit":
        return f"logit of {_spelled(node)}{_after(graph, node)}"
    if node.kind == "direction" and DIFFERENCE.fullmatch(node.label):
        return f"logit of {node.label}{_after(graph, node)}"
    if node.kind == "latent" and node.position is not None and node.position < len(graph.tokens):
        return f"L{node.layer}/{node.index} at {graph.tokens[node.position]!r} @{node.position}"
    return _words(graph, node)


def _spelled(node: Node) -> str:
    return repr(node.label) if node.label else f"token #{node.index}"


def _after(graph: Graph, node: Node) -> str:
    known = node.position is not None and node.position < len(graph.tokens)
    return f" after {graph.tokens[node.position or 0]!r}" if known else ""


def _paths(graph: Graph) -> tuple[Sequence[str], Sequence[Node]]:
    """(the strongest paths to the root of most influence, the nodes on them); none through groups, which would mix
    what they hold."""
    if _has_groups(graph):
        return [], []
    roots = sorted(set(graph.target.tolist()) - set(graph.source.tolist()), key=lambda i: (-graph.influence[i], i))
    try:
        paths = strongest_paths(graph, roots[0], PATHS) if roots else []
    except UsageError as error:  # of a graph with a circle, which is drawn all the same
        return [str(error)], []
    return path_lines(graph, paths), [graph.nodes[i] for path in paths for i in path.nodes]


def _has_groups(graph: Graph) -> bool:
    return any(node.kind == "group" for node in graph.nodes)


def _row(graph: Graph, edge: int) -> tuple[str, str, str]:
    source, target = graph.nodes[graph.source[edge]], graph.nodes[graph.target[edge]]
    return node_words(source, graph.tokens), node_words(target, graph.tokens), _signed(float(graph.weight[edge]))


def _parted(graph: Graph, part: Parted) -> tuple[str, ...]:
    activations = (numbers.fixed(part.true, 3), numbers.fixed(part.simulated, 3))
    told = (part.true_share, part.simulated_share)
    shares = ("pruned" if share is None else numbers.percent(share, 1) for share in told)
    return node_words(part.node, graph.tokens), *activations, *shares


def _signed(value: float) -> str:
    return signed(value) if math.isfinite(value) else numbers.UNDEFINED


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _packed(array: Shaped[np.ndarray, " e"]) -> str:
    little = array.astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()
