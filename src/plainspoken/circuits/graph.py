"""A circuit as a graph: typed nodes, signed edges, and at every node what was left out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

NodeKind = Literal[
    "token",
    "position",
    "attention_bias",
    "ffn_bias",
    "error",
    "latent",
    "head",
    "skip",
    "logit",
    "direction",
    "own_bias",
    "group",
]
"""`token`, `position`: embeddings. `attention_bias`, `ffn_bias`: all constants of a layer's part, at all tokens
together, or at one where it has a position. `error`: what a layer's FFN puts out at a token beyond its coder. `head`: a
head's reading of a source token. `skip`: a coder's linear path. `logit`, `direction`: what is explained. `own_bias`: of
paths alone, where one ends in the bias of what it last reached; a graph has it as offset. `group`: a supernode."""


@dataclass(frozen=True)
class Node:
    """One source or target. `value`: what its incoming edges, own bias and rest sum to; None where nothing comes in.

    `activation`: what the node puts out, for a latent z; the same as `value` unless another was given (a simulated
    one). `reads`: of a head, the token at which it writes what it reads at `position`. `text`, `fidelity`: of a latent
    (or a group of one), its explanation and how well that foretells it (`fidelity_of` says which measure), where known.
    """

    kind: NodeKind
    layer: int | None = None
    position: int | None = None
    index: int | None = None
    reads: int | None = None
    value: float | None = None
    activation: float | None = None
    label: str = ""
    text: str | None = None
    fidelity: float | None = None

    @property
    def id(self) -> str:
        """Unique in its graph, and readable: KIND[:LAYER[/INDEX]][@POSITION[>READS]], or KIND:LABEL."""
        place = "" if self.layer is None else f":{self.layer}"
        place += "" if self.index is None else f"/{self.index}" if place else f":{self.index}"
        place += f":{self.label}" if self.kind in ("direction", "group") else ""
        place += "" if self.position is None else f"@{self.position}"
        return self.kind + place + ("" if self.reads is None else f">{self.reads}")


@dataclass(frozen=True, eq=False)
class Graph:
    """Edge e says that node source[e] adds weight[e] to node target[e].

    At every node n with incoming edges: their sum + offset[n] (its own biases) + rest[n] (sources that were pruned) is
    its value. `unit`: "own", where weights are in units of the target's value; "root", where all of them are in units
    of the one target that is explained, and value is the node's share of it. `explained`: of all that enters a node in
    absolute terms, the share that comes by edges of sources other than errors; NaN where nothing enters. `influence`:
    the node's share of what reaches the roots. `tokens`: what each token of the prompt spells. `about`: settings,
    seeds, versions, hashes. `supernodes`: names for sets of nodes that belong together, by the nodes' numbers.
    """

    nodes: tuple[Node, ...]
    source: Int[np.ndarray, " e"]
    target: Int[np.ndarray, " e"]
    weight: Float[np.ndarray, " e"]
    offset: Float[np.ndarray, " n"]
    rest: Float[np.ndarray, " n"]
    influence: Float[np.ndarray, " n"]
    explained: Float[np.ndarray, " n"]
    tokens: tuple[str, ...]
    unit: Literal["own", "root"] = "own"
    about: dict[str, Any] = field(default_factory=dict)
    supernodes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @cached_property
    def number(self) -> dict[str, int]:
        """Each node's number by its id."""
        return {node.id: i for i, node in enumerate(self.nodes)}

    def incoming(self, node: int) -> Int[np.ndarray, " some"]:
        """The edges into a node, strongest first."""
        found = np.flatnonzero(self.target == node)
        return found[np.argsort(-np.abs(self.weight[found]), kind="stable")]

    def outgoing(self, node: int) -> Int[np.ndarray, " some"]:
        """The edges out of a node, strongest first."""
        found = np.flatnonzero(self.source == node)
        return found[np.argsort(-np.abs(self.weight[found]), kind="stable")]

    def with_nodes(self, change: Callable[[Node], Node]) -> "Graph":
        """The same graph with other words on its nodes; what a node is (its id) must stay."""
        nodes = tuple(map(change, self.nodes))
        assert all(new.id == old.id for new, old in zip(nodes, self.nodes, strict=True)), "a node became another"
        return replace(self, nodes=nodes)
