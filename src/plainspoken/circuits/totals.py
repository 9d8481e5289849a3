"""Total effects in a graph: what a node does to a root on all paths together."""

import numpy as np
from jaxtyping import Float

from plainspoken.circuits.graph import Graph
from plainspoken.errors import UsageError


def totals(graph: Graph, root: int) -> Float[np.ndarray, " n"]:
    """By how much the root's value would be less without each node, latents answering linearly.

    A latent whose pre-activation moves by δ puts out δ more, which is δ / z of what it puts out; so a path's effect is
    the product of its edges over the activations of the latents that it passes, and the total is the sum over paths.
    That is exact in the frozen model while the latents that fire go on firing and the others stay silent, and as far as
    the graph keeps the edges. The root's own entry is its value; in the unit "root" no such sum is defined.
    Raises UsageError for a graph in that unit, and for one in which paths pass what is no latent, such as a group.
    """
    if graph.unit != "own":
        raise UsageError("total effects need edges in units of their own targets: build the graph with unit 'own'")
    _require_passable(graph)
    gain, total = np.zeros(len(graph.nodes)), np.zeros(len(graph.nodes))
    gain[root] = 1.0
    for node in _downward(graph):
        out = np.flatnonzero(graph.source == node)
        total[node] = float(graph.weight[out] @ gain[graph.target[out]])
        activation = graph.nodes[node].activation
        if graph.nodes[node].kind == "latent" and activation and node != root:
            gain[node] = total[node] / activation
    value = graph.nodes[root].value
    total[root] = np.nan if value is None else value
    return total


def _require_passable(graph: Graph) -> None:
    """Of what no latent hands on of its inputs, the graph says nothing."""
    between = np.intersect1d(graph.source, graph.target)
    others = [graph.nodes[i] for i in between.tolist() if graph.nodes[i].kind != "latent"]
    if others:
        raise UsageError(
            f"paths pass {others[0].id}, which is no latent, so that no total over them can be told: take the graph as "
            "it is before its supernodes are collapsed"
        )


def _downward(graph: Graph) -> list[int]:
    """The nodes so that each comes after all to which it adds: latents from the last layer down, then other sources."""
    latents = [i for i, node in enumerate(graph.nodes) if node.kind == "latent"]
    others = [i for i, node in enumerate(graph.nodes) if node.kind != "latent"]
    return sorted(latents, key=lambda i: -(graph.nodes[i].layer or 0)) + others
