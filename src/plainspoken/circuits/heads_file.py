"""Edges by head as one JSON file beside the graph whose edges they are. docs/circuits-format.md tells every field."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from plainspoken.circuits.graph import Graph
from plainspoken.circuits.heads import EdgesByHead
from plainspoken.store import write_json

FORMAT, VERSION = "plainspoken edges by head", 1


def save_edges_by_head(graph: Graph, found: Iterable[EdgesByHead], path: Path) -> None:
    """Whole or not at all. `found`: of the graph's edges, into a node each. Raises StoreError when the disk refuses."""
    edges = [told for each in found for told in _told(graph, each)]
    write_json(path, {"format": FORMAT, "version": VERSION, "about": graph.about, "edges": edges})


def _told(graph: Graph, found: EdgesByHead) -> Iterator[dict[str, Any]]:
    """Each edge with every head that hands some of it on, so that what is told sums to its weight."""
    every = found.heads.shape[0] * found.heads.shape[1]
    for place, edge in enumerate(found.edges.tolist()):
        heads = [{"layer": h.layer, "head": h.head, "weight": h.value} for h in found.top(edge, every)]
        yield {
            "source": graph.nodes[graph.source[edge]].id,
            "target": graph.nodes[graph.target[edge]].id,
            "weight": float(graph.weight[edge]),
            "heads": heads,
            "none": float(found.bypass[place]),
        }
