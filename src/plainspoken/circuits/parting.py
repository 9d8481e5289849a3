"""Where a circuit of true activations and one of simulated activations part."""

from dataclasses import dataclass

import numpy as np

from plainspoken.circuits.graph import Graph, Node


@dataclass(frozen=True)
class Parting:
    """A latent at a token as the two circuits have it; 0 where it is in one of them alone.

    `true`, `simulated`: its activation in each. `true_share`, `simulated_share`: its influence in each.
    """

    node: Node
    true: float
    simulated: float
    true_share: float
    simulated_share: float

    @property
    def distance(self) -> float:
        """By how much the latent's influence differs."""
        return abs(self.true_share - self.simulated_share)


def parting(true: Graph, simulated: Graph) -> list[Parting]:
    """Every latent that is in either circuit, the one with the largest difference of influence first."""
    both = {node.id: node for graph in (simulated, true) for node in graph.nodes if node.kind == "latent"}
    found = []
    for key, node in both.items():
        mine, other = (_of(graph, key) for graph in (true, simulated))
        found.append(Parting(node, mine[0], other[0], mine[1], other[1]))
    return sorted(found, key=lambda each: (-each.distance, each.node.id))


def _of(graph: Graph, key: str) -> tuple[float, float]:
    if key not in graph.number:
        return 0.0, 0.0
    i = graph.number[key]
    return graph.nodes[i].activation or 0.0, float(np.nan_to_num(graph.influence[i]))


def overlap(true: Graph, simulated: Graph) -> float | None:
    """The influence that the circuits' latents have in common, over the larger of the two sums; None without any."""
    pairs = parting(true, simulated)
    common = sum(min(each.true_share, each.simulated_share) for each in pairs)
    whole = max(sum(each.true_share for each in pairs), sum(each.simulated_share for each in pairs))
    return common / whole if whole > 0 else None
