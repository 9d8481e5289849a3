"""How strong an edge of a circuit is drawn: the order in which edges are shown, and their widths."""

import numpy as np
from jaxtyping import Float, Int, UInt8

from plainspoken.circuits.graph import Graph


def strongest_edges(graph: Graph) -> tuple[Int[np.ndarray, " e"], UInt8[np.ndarray, " e"]]:
    """(edges, strongest first; the width of each in 255ths).

    An edge is as strong as the share of the target's influence that it brings: |weight| over all that enters by edges,
    times the influence. In units of the root, and where no influence is known, it is |weight|.
    """
    size = _share(np.abs(np.nan_to_num(graph.weight.astype(np.float64), posinf=0.0, neginf=0.0)))
    influence = np.clip(np.nan_to_num(graph.influence.astype(np.float64)), 0, 1)
    if graph.unit == "own" and influence.any():
        entering = np.bincount(graph.target, size, len(graph.nodes))
        size = _share(size / np.maximum(entering[graph.target], np.finfo(np.float64).tiny) * influence[graph.target])
    order = np.argsort(-size, kind="stable")
    return order, np.round(np.sqrt(size[order]) * 255).astype(np.uint8)


def _share(size: Float[np.ndarray, " e"]) -> Float[np.ndarray, " e"]:
    """Of the largest."""
    top = size.max(initial=0.0)
    return size / top if top > 0 else size
