"""A graph in the attribution-graph JSON of public viewers (circuit-tracer's own, Neuronpedia).

Names of fields and ids are theirs: a latent's node is LAYER_LATENT_TOKEN, an embedding's E_VOCABULARY_TOKEN, an error's
LAYER_-1_TOKEN, and `feature` of a latent is the Cantor pairing of layer and latent (schema version 1). What those tools
do not have (positions, biases, heads, skips) stands under ids of their shape with slots below -1, as nodes of the one
type whose label the viewers keep. docs/circuits-format.md tells why, field by field.
"""

import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.lines import node_words
from plainspoken.errors import UsageError
from plainspoken.store import write_atomic

LATENT, ERROR, EMBEDDING, LOGIT = "cross layer transcoder", "mlp reconstruction error", "embedding", "logit"
SHOWN = 1.0
"""The share of the influence of the graph's nodes that viewers show at first, which is also the most that their slider
goes up to: all, since the graph has been pruned already."""

# Slots in the place of a latent's number, which no latent has. Heads count down from the last, a slot for each head
# and token that it writes at.
_SLOTS = {"error": -1, "attention_bias": -2, "ffn_bias": -3, "skip": -4, "position": -2}
_FIRST_HEAD = -10
_FIRST_GROUP, _FIRST_DIRECTION = -(10**9), -(10**8)


def viewer_graph(
    graph: Graph,
    slug: str,
    scan: str,
    prompt: str | None = None,
    probability: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The JSON as Python values. `scan`: which model and coders; `prompt`: its text (else its tokens, joined).

    `probability`: of the next token, by the id of a logit's node; where it is not given, the label says that it is not
    known, and 0 stands in the field, which must hold a number. Raises UsageError where a weight is not finite: JSON has
    no such number.
    """
    if not np.isfinite(graph.weight).all():
        raise UsageError("an edge's weight is not finite, which no viewer reads: trace the circuit again in float32")
    ids = [_viewer_id(graph, node) for node in graph.nodes]
    assert len(set(ids)) == len(ids), "two nodes under one id"
    reached = _cumulative(graph.influence, [not _is_root(graph, i) for i in range(len(ids))])
    nodes = [_node(graph, i, ids[i], reached[i], probability or {}) for i in range(len(ids))]
    first_logit = next((node for node in nodes if node["feature_type"] == LOGIT), None)
    if first_logit is not None:
        first_logit["is_target_logit"] = True
    ends = zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True)
    return {
        "metadata": {
            "slug": slug,
            "scan": scan,
            "transcoder_list": [],
            "prompt_tokens": list(graph.tokens),
            "prompt": "".join(graph.tokens) if prompt is None else prompt,
            "node_threshold": SHOWN,
            "schema_version": 1,
            "info": {"generator": {"name": "plainspoken", "version": version("plainspoken")}},
            "plainspoken": {"unit": graph.unit, "about": graph.about},
        },
        "qParams": {
            "pinnedIds": [ids[i] for i in dict.fromkeys(i for _, members in graph.supernodes for i in members)],
            "supernodes": [[name, *(ids[i] for i in members)] for name, members in graph.supernodes],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": [{"source": ids[s], "target": ids[t], "weight": w} for s, t, w in ends],
    }


def save_viewer_graph(
    graph: Graph,
    path: Path,
    slug: str,
    scan: str | None = None,
    prompt: str | None = None,
    probability: Mapping[str, float] | None = None,
) -> None:
    """Write what `viewer_graph` gives, compact, whole or not at all. `scan`: where not told, what `about` has as model.

    Raises UsageError as it does, and StoreError when the disk refuses.
    """
    named = str(graph.about.get("model", "plainspoken")) if scan is None else scan
    exported = viewer_graph(graph, slug, named, prompt, probability)
    text = json.dumps(exported, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    with write_atomic(Path(path)) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _is_root(graph: Graph, i: int) -> bool:
    """What is explained: a logit, a direction, or a latent that adds to nothing."""
    latent = graph.nodes[i].kind == "latent" and i in graph.target and i not in graph.source
    return latent or graph.nodes[i].kind in ("logit", "direction")


def _layers(graph: Graph) -> int:
    """Layers that the graph shows, from 0 on."""
    return 1 + max((node.layer for node in graph.nodes if node.layer is not None), default=-1)


def _slot(graph: Graph, node: Node) -> int:
    """What stands in the place of a latent's number."""
    if node.kind == "head":
        assert node.index is not None and node.reads is not None
        return _FIRST_HEAD - node.index * max(len(graph.tokens), node.reads + 1) - node.reads
    if node.kind in ("direction", "group"):
        # These have no number; they are told apart by their order, below the vocabulary (groups below all heads).
        order = [other.id for other in graph.nodes if other.kind == node.kind].index(node.id)
        return (_FIRST_DIRECTION if node.kind == "direction" else _FIRST_GROUP) - order
    slot = node.index if node.kind in ("latent", "token", "logit") else _SLOTS[node.kind]
    assert slot is not None, f"{node.id} has no number"
    return slot


def _layer(graph: Graph, node: Node) -> str:
    if node.kind in ("token", "position"):
        return "E"
    return str(_layers(graph) + 1 if node.layer is None else node.layer)


def _viewer_id(graph: Graph, node: Node) -> str:
    return f"{_layer(graph, node)}_{_slot(graph, node)}_{node.position or 0}"


def _node(
    graph: Graph, i: int, node_id: str, reached: float | None, probability: Mapping[str, float]
) -> dict[str, Any]:
    node, slot = graph.nodes[i], _slot(graph, graph.nodes[i])
    kinds = {"token": EMBEDDING, "error": ERROR, "logit": LOGIT, "direction": LOGIT}
    told = {
        "node_id": node_id,
        "feature": _feature(node, slot),
        "layer": _layer(graph, node),
        "ctx_idx": node.position or 0,
        "feature_type": kinds.get(node.kind, LATENT),
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": _js_id(graph, node, slot),
        "clerp": _label(graph, node, probability),
        "influence": reached,
        "activation": _finite(node.activation if node.kind == "latent" else None),
    }
    if _is_root(graph, i):
        told["token_prob"] = probability.get(node.id, 0.0)
    own = {"id": node.id, "value": node.value, "own_bias": float(graph.offset[i]), "rest": float(graph.rest[i])}
    own |= {"explained": float(graph.explained[i]), "share": float(graph.influence[i]), "fidelity": node.fidelity}
    told["plainspoken"] = {name: v if isinstance(v, str) else _finite(v) for name, v in own.items()}
    return told


def _feature(node: Node, slot: int) -> int:
    if node.kind == "latent":
        assert node.layer is not None
        return (node.layer + slot) * (node.layer + slot + 1) // 2 + slot
    return (node.position or 0) if node.kind == "token" else slot


def _js_id(graph: Graph, node: Node, slot: int) -> str:
    """The id under which viewers know one thing at several tokens: for a latent, the same at all of them."""
    layer = "L" if node.kind in ("logit", "direction") else _layer(graph, node)
    return f"{layer}_{slot}-{0 if node.kind == 'latent' else node.position or 0}"


def _label(graph: Graph, node: Node, probability: Mapping[str, float]) -> str:
    if node.kind in ("logit", "direction"):
        p = f"{probability[node.id]:.3f}" if node.id in probability else "unknown"
        # Viewers read the probability out of the label of every node of this type, and stop where it has none.
        name = node.label or ("" if node.index is None else f"#{node.index}")
        return f'{"Output" if node.kind == "logit" else "Direction"} "{name}" (p={p})'
    if node.kind == "latent":
        return node.text or ""
    if node.kind in ("attention_bias", "ffn_bias"):
        return f"{node_words(node)}, at all tokens together"
    return node_words(node, graph.tokens)


def _cumulative(influence: Float[np.ndarray, " n"], counted: list[bool]) -> list[float | None]:
    """For each node, the share of the influence that it and all stronger ones have; None of roots.

    This, and not a node's own influence, is what viewers hold against their threshold.
    """
    own = np.where(np.isfinite(influence) & np.array(counted, bool), influence, 0.0)
    order = np.argsort(-own, kind="stable")
    total = own.sum()
    reached = np.empty(len(own))
    reached[order] = np.minimum(np.cumsum(own[order]) / total, 1.0) if total > 0 else 1.0
    return [float(share) if is_counted else None for share, is_counted in zip(reached, counted, strict=True)]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
