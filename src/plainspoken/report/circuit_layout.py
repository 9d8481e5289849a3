"""Where a circuit's nodes stand: a column a token, a row a layer, embeddings at the bottom; no layout engine.

In a cell the nodes stand in the order of their influence, in lines as long as the column is wide. What belongs to no
token (biases) stands in a first column of its own.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from plainspoken.circuits.graph import Graph, Node

HEIGHT, GAP, PAD = 20, 4, 6
"""Of a box and around it, CSS pixels."""
NARROW, WIDE = 54, 148
"""A box that holds a number, and one that holds words too."""
FEW_TOKENS = 16
"""Up to as many tokens, boxes of latents and outputs hold words, and so do all others in their columns."""
LINES = 6
"""A cell grows downwards up to this, then the column grows wider."""
HEADER = 26
"""Height of the tokens above and below the grid."""
EMPTY = 14
"""Height of a layer without nodes."""
LETTER = 6.6
"""Width of a letter of a token, at the size at which the page shows it."""

_WORDY = ("latent", "logit", "direction", "group")

OUTPUT, EMBEDDING, ALL = -2, -1, -1
"""Rows and the column that are no layer's and no token's."""


@dataclass(frozen=True)
class Box:
    """A node's place, pixels from the left upper corner of the grid."""

    x: int
    y: int
    width: int


@dataclass(frozen=True)
class Band:
    """A column (`start` from the left) or a row (`start` from the top), and what it is called."""

    key: int
    name: str
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """All boxes by node number, the columns left to right, the rows top to bottom."""

    boxes: tuple[Box, ...]
    columns: tuple[Band, ...]
    rows: tuple[Band, ...]
    width: int
    height: int


def layout(graph: Graph, tokens: Sequence[str]) -> Layout:
    """The layout of a graph; `tokens` as they are shown."""
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    order = sorted(range(len(graph.nodes)), key=lambda i: -_known(graph.influence[i]))
    for i in order:
        cells[_column(graph.nodes[i]), _row(graph.nodes[i])].append(i)
    wordy = {_column(node) for node in graph.nodes if node.kind in _WORDY and len(tokens) <= FEW_TOKENS}
    size = {column: WIDE if column in wordy else NARROW for column, _ in cells}
    beside = {
        column: max(math.ceil(len(cells[key]) / LINES) for key in cells if key[0] == column) for column, _ in cells
    }
    columns = _columns(tokens, beside, size)
    lines = {key: math.ceil(len(members) / beside[key[0]]) for key, members in cells.items()}
    rows = _rows(graph, lines)
    left, top = {band.key: band for band in columns}, {band.key: band for band in rows}
    boxes = [Box(0, 0, NARROW)] * len(graph.nodes)
    for (column, row), members in cells.items():
        for place, i in enumerate(members):
            line, across = divmod(place, beside[column])
            x = left[column].start + PAD + across * (size[column] + GAP)
            boxes[i] = Box(x, top[row].start + PAD + line * (HEIGHT + GAP), size[column])
    width = columns[-1].start + columns[-1].size if columns else 0
    return Layout(tuple(boxes), columns, rows, width, rows[-1].start + rows[-1].size + HEADER)


def _column(node: Node) -> int:
    """Where a node stands: a head where it writes, a bias in no token's column."""
    place = node.reads if node.reads is not None else node.position
    return ALL if place is None else place


def _row(node: Node) -> int:
    if node.kind in ("token", "position"):
        return EMBEDDING
    return OUTPUT if node.layer is None else node.layer


def _columns(tokens: Sequence[str], beside: dict[int, int], size: dict[int, int]) -> tuple[Band, ...]:
    found, start = [], 0
    for key in ([ALL] if ALL in beside else []) + list(range(max([len(tokens), *(c + 1 for c in beside)]))):
        name = "all tokens" if key == ALL else tokens[key] if key < len(tokens) else ""
        boxes = beside.get(key, 0) * (size.get(key, NARROW) + GAP) - GAP
        width = max(boxes, min(math.ceil(LETTER * len(name)), 2 * NARROW), 24) + 2 * PAD
        found.append(Band(key, name, start, width))
        start += width
    return tuple(found)


def _rows(graph: Graph, lines: dict[tuple[int, int], int]) -> tuple[Band, ...]:
    layers = [node.layer for node in graph.nodes if node.layer is not None]
    names = {OUTPUT: "output", EMBEDDING: "tokens"} | {
        layer: f"L{layer}" for layer in range(max(layers, default=-1) + 1)
    }
    found, start = [], HEADER
    for key in (OUTPUT, *sorted((k for k in names if k >= 0), reverse=True), EMBEDDING):
        most = max((n for (_, row), n in lines.items() if row == key), default=0)
        if most == 0 and key == OUTPUT:
            continue
        size = most * (HEIGHT + GAP) - GAP + 2 * PAD if most else EMPTY
        found.append(Band(key, names[key], start, size))
        start += size
    return tuple(found)


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0
