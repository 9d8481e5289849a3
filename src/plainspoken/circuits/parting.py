"""Where a circuit of true activations and one of simulated activations part."""

from dataclasses import dataclass

import numpy as np

from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Graph, Node


@dataclass(frozen=True)
class Parting:
    """A latent at a token as the two circuits have it.

    `true`, `simulated`: its activation at the prompt, in the circuit or not. `true_share`, `simulated_share`: its
    influence in each; None where the circuit does not hold it.
    """

    node: Node
    true: float
    simulated: float
    true_share: float | None
    simulated_share: float | None

    @property
    def distance(self) -> float:
        """By how much the latent's influence differs, where what is not in a circuit has none there."""
        return abs((self.true_share or 0.0) - (self.simulated_share or 0.0))


def parting(true: tuple[Frozen, Graph], simulated: tuple[Frozen, Graph]) -> list[Parting]:
    """Every latent in either circuit that is not what is explained, the largest difference of influence first."""
    both = {graph.nodes[i].id: graph.nodes[i] for _, graph in (simulated, true) for i in _sources(graph)}
    found = []
    for key, node in both.items():
        shares = [_share(graph, key) for _, graph in (true, simulated)]
        found.append(Parting(node, *(_activation(frozen, node) for frozen, _ in (true, simulated)), *shares))
    return sorted(found, key=lambda each: (-each.distance, each.node.id))


def overlap(true: Graph, simulated: Graph) -> float | None:
    """The influence that the circuits' latents have in common, over the larger of the two sums; None without any.

    What is explained does not count: it is the same by definition.
    """
    mine, other = (
        {graph.nodes[i].id: float(graph.influence[i]) for i in _sources(graph)} for graph in (true, simulated)
    )
    common = sum(min(mine[key], other[key]) for key in mine.keys() & other.keys())
    whole = max(sum(mine.values()), sum(other.values()))
    return common / whole if whole > 0 else None


def _sources(graph: Graph) -> list[int]:
    """The latents that add to something: all but roots."""
    adds = set(graph.source.tolist())
    return [i for i, node in enumerate(graph.nodes) if node.kind == "latent" and i in adds]


def _share(graph: Graph, key: str) -> float | None:
    return float(np.nan_to_num(graph.influence[graph.number[key]])) if key in graph.number else None


def _activation(frozen: Frozen, node: Node) -> float:
    assert node.layer is not None
    at = frozen.layers[node.layer].latents
    here = (at.position == node.position) & (at.latent == node.index)
    return float(at.value[here].sum())
