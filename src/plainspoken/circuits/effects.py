"""Edges against effects: what a graph says that ablating a latent does, beside what it does.

A graph predicts two things of a latent: its direct effect on a root is its edge, its total effect the sum over paths
(`circuits/totals.py`). Each latent is then ablated at its token, and the root's change is measured three ways, each of
which lets more of the model answer: in the replaced model (patterns, norm factors and errors held, later latents
firing anew), in the model with its attention patterns held, and in the model as it is. Random latents that are not in
the graph are the control, of the same layers and tokens as far as any fire there. (Ameisen et al. 2025, "Circuit
Tracing", validate their graphs so.)
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.adjoint import columns
from plainspoken.circuits.attribution import Root, latent_node
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.intervene import Intervention, running
from plainspoken.circuits.respond import respond
from plainspoken.circuits.totals import totals
from plainspoken.errors import UsageError

ENOUGH = 3
"""Latents from which on a correlation says anything."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The change of each root, in units of its value, once each latent is ablated at its token: rows are latents."""

    latents: tuple[Node, ...]
    replaced: Float[np.ndarray, "n roots"]
    """Patterns, norm factors and errors held; later latents fire anew."""
    held: Float[np.ndarray, "n roots"]
    """The model with its attention patterns held."""
    free: Float[np.ndarray, "n roots"]
    """The model."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's r over latents and roots, with the interval of a bootstrap over latents."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Effects:
    """What the graph predicts for its latents with the most influence, what was measured, and the control.

    `direct`, `total`: the predicted changes. `control`: latents outside the graph, drawn at random; there may be fewer
    of them where fewer fire. `dtype`: in which the model runs; where that is of 16 bits, rounding is in what is
    measured on the model itself (`held`, `free`).
    """

    roots: tuple[Node, ...]
    direct: Float[np.ndarray, "n roots"]
    total: Float[np.ndarray, "n roots"]
    measured: Measured
    control: Measured
    seed: int
    dtype: str = "float32"

    @property
    def matched(self) -> int:
        """How many latents of the control stand in the layer and at the token of one of the graph's; the others are as
        near as there are any."""
        places = (
            Counter((node.layer, node.position) for node in each.latents) for each in (self.measured, self.control)
        )
        graph, control = places
        return (graph & control).total()

    def correlation(
        self, predicted: str, measured: str, resamples: int = 2000, share: float = 0.95
    ) -> Correlation | None:
        """Of "direct" or "total" with "replaced", "held" or "free".

        None where there are fewer latents than three, or where one side does not vary.
        """
        x, y = getattr(self, predicted), getattr(self.measured, measured)
        value = float(_pearson(x[None], y[None])[0])
        if len(x) < ENOUGH or np.isnan(value):
            return None
        drawn = np.random.default_rng(self.seed).integers(len(x), size=(resamples, len(x)))
        low, high = np.nanquantile(_pearson(x[drawn], y[drawn]), [(1 - share) / 2, (1 + share) / 2])
        return Correlation(value, float(low), float(high))

    def size(self, measured: str) -> tuple[float, float]:
        """Mean absolute change by the graph's latents, and by those of the control; NaN where there are none."""
        sizes = [np.abs(getattr(each, measured)) for each in (self.measured, self.control)]
        return tuple(float(each.mean()) if each.size else float("nan") for each in sizes)  # pyright: ignore[reportReturnType]


def _pearson(
    x: Float[np.ndarray, "samples n roots"], y: Float[np.ndarray, "samples n roots"]
) -> Float[np.ndarray, " samples"]:
    """Of each sample; NaN where one side does not vary."""
    x, y = (each.reshape(len(each), -1) for each in (x, y))
    x, y = (each - each.mean(axis=1, keepdims=True) for each in (x, y))
    scale = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.divide((x * y).sum(axis=1), scale, out=np.full(len(x), np.nan), where=scale > 0)


def effects(
    frozen: Frozen,
    roots: Root,
    graph: Graph,
    n: int = 20,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Effects:
    """Ablates the graph's n latents of most influence, one by one, and as many others at random.

    The others fire in the same layers and at the same tokens, as far as there are such latents outside the graph.

    `roots`, `graph`: as `attribution_graph` took and gave them. `progress` is told how many more latents were ablated.
    Raises UsageError for a graph without latents or of other roots, and for a root that is no latent and is not read
    through the final norm.
    """
    count = len(roots.nodes)
    if [node.id for node in graph.nodes[:count]] != [node.id for node in roots.nodes]:
        raise UsageError("the graph has other roots than those given: give the roots that it was built from")
    chosen = [i for i, node in enumerate(graph.nodes) if i >= count and node.kind == "latent"]
    chosen = sorted(chosen, key=lambda i: -graph.influence[i])[:n]
    if not chosen:
        raise UsageError(
            "the graph has no latents to ablate: keep more of it (node_share), or give more layers a coder"
        )
    direct = np.zeros((len(chosen), count))
    place = {node: row for row, node in enumerate(chosen)}
    for source, target, weight in zip(graph.source.tolist(), graph.target.tolist(), graph.weight, strict=True):
        if source in place and target < count:
            direct[place[source], target] -= weight
    total = np.stack([-totals(graph, root)[chosen] for root in range(count)], 1)
    latents = tuple(graph.nodes[i] for i in chosen)
    others = _others(frozen, roots, graph, latents, seed)
    return Effects(
        roots=graph.nodes[:count],
        direct=direct,
        total=total,
        measured=measure(frozen, roots, latents, progress),
        control=measure(frozen, roots, others, progress),
        seed=seed,
        dtype=str(frozen.lm.dtype).removeprefix("torch."),
    )


def measure(
    frozen: Frozen, roots: Root, latents: Sequence[Node], progress: Callable[[int], object] | None = None
) -> Measured:
    """Each latent ablated at its token by itself. Raises UsageError as `effects` does."""
    out = np.zeros((3, len(latents), len(roots.nodes)))
    before = [_values(frozen, roots, [], attention) for attention in ("held", "free")]
    for row, node in enumerate(latents):
        assert node.layer is not None and node.index is not None and node.position is not None
        ablated = [Intervention(node.layer, node.index, (node.position,))]
        out[0, row] = respond(frozen, ablated, "free").of(roots.targets).double().cpu().numpy()
        for i, attention in enumerate(("held", "free")):
            out[1 + i, row] = (_values(frozen, roots, ablated, attention) - before[i]).numpy()
        if progress is not None:
            progress(1)
    return Measured(tuple(latents), *out)


def _others(frozen: Frozen, roots: Root, graph: Graph, like: Sequence[Node], seed: int) -> list[Node]:
    """Firing latents below the roots that are not in the graph, as many as these as far as there are, at random: of the
    same layers and tokens first; for those that have none, at the nearest token of the layer, else of another layer."""
    where, inside = columns(frozen), {node.id for node in graph.nodes}
    last = int(roots.targets.position.max())
    found = [
        node
        for layer in range(min(roots.targets.layer, len(where.layers)))
        for entry in range(len(frozen.layers[layer].latents))
        if (node := latent_node(frozen, layer, entry)).id not in inside and (node.position or 0) <= last
    ]
    left, drawn = [found[i] for i in np.random.default_rng(seed).permutation(len(found))], []
    for exactly in (True, False):
        rest = []
        for each in like:
            # The first of those that are equally near is a random one of them.
            nearest = min(range(len(left)), key=lambda i: _apart(left[i], each), default=None)
            if nearest is None or (exactly and _apart(left[nearest], each) != (False, 0)):
                rest.append(each)
            else:
                drawn.append(left.pop(nearest))
        like = rest
    return drawn


def _apart(one: Node, other: Node) -> tuple[bool, int]:
    """Whether two latents are of different layers, and the tokens between their places."""
    return one.layer != other.layer, abs((one.position or 0) - (other.position or 0))


@torch.no_grad()
def _values(
    frozen: Frozen, roots: Root, interventions: Sequence[Intervention], attention: Any
) -> Float[Tensor, " roots"]:
    """The roots' values in a run of the model, whose norms are its own."""
    with running(frozen, interventions, attention) as tokens, _reading(frozen, roots) as read:
        frozen.lm.model(tokens, use_cache=False)
    return read[0].double().cpu()


@contextmanager
def _reading(frozen: Frozen, roots: Root) -> Iterator[list[Float[Tensor, " roots"]]]:
    """Within it, a run of the model appends the roots' values."""
    at, final = roots.targets, roots.targets.layer == len(frozen.layers)
    if not final and any(node.kind != "latent" for node in roots.nodes):
        raise UsageError("effects are measured on latents, and on what the final norm is read for, such as logits")
    seen: list[Tensor] = []

    def read_logits(module: Any, args: tuple, output: Any) -> None:
        x = (output[0] if isinstance(output, tuple) else output)[0].to(frozen.dtype)
        # The direction holds the factor of the frozen norm, and this run has another.
        grown = frozen.anatomy.final.factor(x) / frozen.final_factor
        seen.append((x[at.position] * at.direction).sum(-1) * grown[at.position] + at.offset)

    def read_latents(module: Any, args: tuple, output: Any) -> None:
        coder = frozen.layers[at.layer].coder
        assert coder is not None
        index = torch.tensor([node.index for node in roots.nodes], device=coder.W_enc.device)
        x = args[0][0].to(frozen.dtype)[at.position]
        seen.append((x * coder.W_enc[index]).sum(-1) + coder.b_enc[index])

    path = frozen.anatomy.layers[-1].module if final else frozen.anatomy.layers[at.layer].ffn
    handle = frozen.lm.model.get_submodule(path).register_forward_hook(read_logits if final else read_latents)
    try:
        yield seen
    finally:
        handle.remove()
