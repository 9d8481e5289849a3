"""What a trace leaves in its folder: graphs, drawings, an export, and what was measured."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plainspoken.circuits.effects import Effects
from plainspoken.circuits.effects_told import record
from plainspoken.circuits.files import remove_graph, save_graph
from plainspoken.circuits.graph import Graph
from plainspoken.circuits.parting import Parting
from plainspoken.circuits.supernodes import collapsed
from plainspoken.circuits.viewer_export import save_viewer_graph
from plainspoken.report.circuit_page import write_circuit_page
from plainspoken.report.effects_page import write_effects_page
from plainspoken.store import write_json

MOST_PARTINGS = 50
OPTIONAL = ("parting.json", "effects.json", "effects.html", "grouped.html", "by_head.json")
"""Files of a trace that it has only where they were asked for; of graphs there are `_GRAPHS` and their tensors."""
_GRAPHS = re.compile(r"true\.json|paths-\d+\.json")


def write_trace(
    folder: Path,
    graph: Graph,
    probability: Mapping[str, float],
    graphs: Mapping[str, Graph],
    parts: Sequence[Parting],
    overlaps: Mapping[str, Any],
    measured: Effects | None,
) -> dict[str, Path]:
    """The files of a trace; what another trace left in the folder is removed.

    `probability`: of each next token that is explained, by its node's id. `graphs`: those beside the one that was
    traced, by the names of their files. `parts`, `overlaps`: kept where the true graph is among them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in OPTIONAL:  # of another trace that was written here
        (folder / name).unlink(missing_ok=True)
    for path in list(folder.iterdir()):
        if _GRAPHS.fullmatch(path.name):
            remove_graph(path)
    files = {name: folder / name for name in ("graph.json", "viewer.json", "circuit.html")}
    save_graph(graph, files["graph.json"])
    save_viewer_graph(graph, files["viewer.json"], slug=folder.name, probability=probability)
    for name, each in graphs.items():
        files[name] = folder / name
        save_graph(each, files[name])
    if "true.json" in graphs:
        files["parting.json"] = folder / "parting.json"
        write_json(files["parting.json"], {**overlaps, "latents": [_told(p) for p in parts]})
    if measured is not None:
        files["effects.json"], files["effects.html"] = folder / "effects.json", folder / "effects.html"
        influence = [float(graph.influence[graph.number[node.id]]) for node in measured.measured.latents]
        write_json(files["effects.json"], record(measured, influence, graph.about))
        write_effects_page(measured, graph.tokens, graph.about, files["effects.html"])
    write_circuit_page(graph, files["circuit.html"], parts[:MOST_PARTINGS])
    if graph.supernodes:
        files["grouped.html"] = folder / "grouped.html"
        write_circuit_page(collapsed(graph), files["grouped.html"])
    return files


def _told(part: Parting) -> dict[str, Any]:
    names = ("true", "simulated", "true_share", "simulated_share")
    told = {"id": part.node.id, "text": part.node.text, "fidelity": part.node.fidelity}
    return told | {name: getattr(part, name) for name in names}
