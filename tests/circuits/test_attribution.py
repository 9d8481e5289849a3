"""Attribution graphs against the definition, written out with a dense matrix; and what holds of every graph."""

import numpy as np
import pytest
import torch

from families_made import FAMILIES, made_coders, made_lm, made_prompt, made_scene
from plainspoken.circuits import attribution
from plainspoken.circuits.adjoint import columns, rows
from plainspoken.circuits.attribution import Root, attribution_graph, root_of, source_node
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.targets import firing_targets, logit_targets

TOKENS = tuple(f"t{i}" for i in range(32))


def _roots(frozen: Frozen) -> Root:
    nodes = [Node("logit", position=frozen.t - 1, index=i) for i in (3, 5)]
    return root_of(frozen, logit_targets(frozen, frozen.t - 1, None, [3, 5]), nodes, (0.7, 0.3))


def _graph(frozen: Frozen, node_share: float = 0.8, edge_share: float = 0.98) -> Graph:
    return attribution_graph(frozen, _roots(frozen), TOKENS[: frozen.t], node_share, edge_share)


def _dense(frozen: Frozen, roots: Root) -> np.ndarray:
    """Signed [sources and roots, sources and roots]: the entry (target, source), roots last."""
    where, n_roots = columns(frozen), len(roots.nodes)
    A = np.zeros((where.total + n_roots,) * 2)
    A[where.total :, : where.total] = rows(frozen, roots.targets).T.numpy()
    for layer, at in enumerate(where.layers):
        if frozen.layers[layer].coder is not None and len(frozen.layers[layer].latents):
            A[at.latents, : where.total] = rows(frozen, firing_targets(frozen, layer)).T.numpy()
    return A


def _influence(A: np.ndarray, p: np.ndarray) -> np.ndarray:
    """p (A + A² + …) of the row-normalised |A|, which is nilpotent."""
    size = np.abs(A)
    total = size.sum(1, keepdims=True)
    N = np.divide(size, total, out=np.zeros_like(size), where=total > 0)
    out, step = np.zeros(len(A)), p
    while step.any():
        step = step @ N
        out += step
    return out


def _pruned(frozen: Frozen, roots: Root, node_share: float, edge_share: float) -> dict[tuple[str, str], float]:
    """The edges that stay, by the definition."""
    where, A = columns(frozen), _dense(frozen, roots)
    p = np.concatenate([np.zeros(where.total), roots.share])
    influence = _influence(A, p)
    order = np.argsort(-influence[: where.total], kind="stable")
    reached = np.cumsum(influence[order])
    stay = np.zeros(len(A), bool)
    stay[order[: int(np.searchsorted(reached, node_share * reached[-1])) + 1]] = True
    stay[where.token], stay[where.total :] = True, True
    latent = np.zeros(len(A), bool)
    for at in where.layers:
        latent[at.latents] = True
    A[~stay] = 0
    A[:, ~stay] = 0
    own = _influence(A, p) + p
    total = np.abs(A).sum(1, keepdims=True)
    score = np.divide(np.abs(A), total, out=np.zeros_like(A), where=total > 0) * own[:, None]
    flat = np.argsort(score.ravel(), kind="stable")
    lost = np.cumsum(score.ravel()[flat])
    A.ravel()[flat[: int(np.searchsorted(lost, (1 - edge_share) * lost[-1], side="right"))]] = 0
    while True:
        dangling = latent & ((A == 0).all(1) | (A == 0).all(0)) & ((A != 0).any(1) | (A != 0).any(0))
        if not dangling.any():
            break
        A[dangling] = 0
        A[:, dangling] = 0
    names = [source_node(frozen, where, i, TOKENS).id for i in range(where.total)] + [n.id for n in roots.nodes]
    return {(names[s], names[t]): float(A[t, s]) for t, s in zip(*np.nonzero(A), strict=True)}


def _edges(graph: Graph) -> dict[tuple[str, str], float]:
    ends = zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True)
    return {(graph.nodes[s].id, graph.nodes[t].id): w for s, t, w in ends}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shares", [(0.8, 0.98), (0.5, 0.7), (1.0, 1.0)])
def test_the_graph_is_that_of_the_definition(family: str, shares: tuple[float, float]) -> None:
    frozen = made_scene(family).frozen
    graph, wanted = _graph(frozen, *shares), _pruned(frozen, _roots(frozen), *shares)
    found = _edges(graph)
    assert found.keys() == wanted.keys()
    assert all(abs(found[e] - wanted[e]) <= 1e-9 * max(map(abs, wanted.values())) for e in wanted)
    tokens = {Node("token", position=i, index=int(frozen.tokens[i])).id for i in range(frozen.t)}
    assert {n.id for n in graph.nodes} == {end for e in wanted for end in e} | tokens | {n.id for n in graph.nodes[:2]}


@pytest.mark.parametrize("family", FAMILIES)
def test_influence_is_the_share_of_all_walks_from_the_roots(family: str) -> None:
    frozen = made_scene(family).frozen
    roots, where, graph = _roots(frozen), columns(frozen), _graph(frozen)
    p = np.concatenate([np.zeros(where.total), roots.share])
    wanted = _influence(_dense(frozen, roots), p)
    by_id = {source_node(frozen, where, i, TOKENS).id: wanted[i] for i in range(where.total)}
    assert all(abs(graph.influence[i] - by_id[n.id]) < 1e-9 for i, n in enumerate(graph.nodes[2:], 2))
    assert graph.influence[:2].tolist() == [0.7, 0.3]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shares", [(0.8, 0.98), (0.6, 0.9), (1.0, 1.0)])
def test_every_node_still_adds_up(family: str, shares: tuple[float, float]) -> None:
    graph = _graph(made_scene(family).frozen, *shares)
    entered = np.bincount(graph.target, graph.weight, len(graph.nodes))
    inside = np.flatnonzero(np.bincount(graph.target, minlength=len(graph.nodes)))
    size = np.bincount(graph.target, np.abs(graph.weight), len(graph.nodes))
    assert len(inside) >= (2 if shares == (1.0, 1.0) else 1)
    for i in inside:
        value = graph.nodes[i].value
        assert value is not None
        assert abs(entered[i] + graph.offset[i] + graph.rest[i] - value) < 1e-9 * max(1, size[i])
        if shares == (1.0, 1.0):
            assert abs(graph.rest[i]) < 1e-9 * max(1, size[i])


def test_many_edges_are_dropped_in_parts_within_what_may_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = made_scene("llama").frozen
    whole, once = _edges(_graph(frozen, 1.0, 1.0)), _edges(_graph(frozen, 1.0, 0.9))
    monkeypatch.setattr(attribution, "EDGES_AT_ONCE", 500)
    monkeypatch.setattr(attribution, "BLOCK", 3000)
    assert _edges(_graph(frozen, 1.0, 1.0)).keys() == whole.keys()
    parts = _edges(_graph(frozen, 1.0, 0.9))
    assert len(once) <= len(parts) < len(whole)


def test_the_same_seed_makes_the_same_bytes() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        lm = made_lm("gemma2", dtype=torch.float32)
        made.append(_graph(freeze(lm, made_coders(lm), made_prompt(9))))
    one, other = made
    assert [n.id for n in one.nodes] == [n.id for n in other.nodes]
    for name in ("source", "target", "weight", "offset", "rest", "influence", "explained"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_inhibition_is_found() -> None:
    """A latent that writes against what another reads is among its strongest edges, with its sign."""
    torch.manual_seed(0)
    lm = made_lm("gpt2")
    coders = made_coders(lm, skips=())
    first, last = coders.values()
    prompt = made_prompt(9)
    frozen = freeze(lm, coders, prompt, torch.float64)
    latents = frozen.layers[0].latents
    planted, position = int(latents.latent[-1]), int(latents.position[-1])
    target = frozen.layers[2].latents
    read = last.W_enc[target.latent[-1]] * frozen.layers[2].layer.ffn_norm.weight
    first.W_dec[planted] = -30 * (read - read.mean())
    frozen = freeze(lm, coders, prompt, torch.float64)
    entry = Node("latent", 2, 8, int(target.latent[-1]))
    at = firing_targets(frozen, 2)
    mine = torch.nonzero((at.position == 8) & (frozen.layers[2].latents.latent == target.latent[-1])).squeeze(1)
    graph = attribution_graph(frozen, root_of(frozen, at[mine], [entry]), TOKENS[:9])
    strongest = graph.incoming(0)[:2]
    ids = {graph.nodes[graph.source[e]].id: graph.weight[e] for e in strongest}
    assert ids[f"latent:0/{planted}@{position}"] < 0
