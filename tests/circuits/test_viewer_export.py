"""What viewers get has the shape that they read, and adds up as the graph does."""

import json
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from families_made import made_coders, made_lm, made_prompt
from plainspoken.circuits.attribution import attribution_graph, root_of
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.graph import Graph, Node, NodeKind
from plainspoken.circuits.targets import logit_targets
from plainspoken.circuits.viewer_export import save_viewer_graph, viewer_graph
from plainspoken.errors import UsageError

# As circuit-tracer's graph_models.py (pydantic) and Neuronpedia's graph-schema.json ask: name to (types, required).
NUMBER, MAYBE = (int, float), (int, float, type(None))
SCHEMA: dict[str, dict[str, tuple[Any, bool]]] = {
    "metadata": {
        "slug": (str, True),
        "scan": (str, True),
        "transcoder_list": (list, True),
        "prompt_tokens": (list, True),
        "prompt": (str, True),
        "node_threshold": (MAYBE, False),
        "schema_version": (int, False),
        "info": (dict, False),
    },
    "qParams": {
        "pinnedIds": (list, True),
        "supernodes": (list, True),
        "linkType": (str, True),
        "clickedId": (str, True),
        "sg_pos": (str, True),
    },
    "nodes": {
        "node_id": (str, True),
        "feature": (int, True),
        "layer": (str, True),
        "ctx_idx": (int, True),
        "feature_type": (str, True),
        "token_prob": (NUMBER, False),
        "is_target_logit": (bool, False),
        "run_idx": (int, False),
        "reverse_ctx_idx": (int, False),
        "jsNodeId": (str, True),
        "clerp": (str, True),
        "influence": (MAYBE, False),
        "activation": (MAYBE, False),
    },
    "links": {"source": (str, True), "target": (str, True), "weight": (NUMBER, True)},
}
TYPES = {"cross layer transcoder", "mlp reconstruction error", "embedding", "logit"}


def check(exported: Any) -> None:
    """Fails where a viewer would."""
    assert set(exported) == set(SCHEMA)
    for part, told in SCHEMA.items():
        for each in exported[part] if part in ("nodes", "links") else [exported[part]]:
            for name, (types, required) in told.items():
                assert name in each or not required, f"{part} lack {name}"
                assert name not in each or isinstance(each[name], types), f"{part}.{name} is {each[name]!r}"
    ids = [node["node_id"] for node in exported["nodes"]]
    assert len(set(ids)) == len(ids)
    assert all(link["source"] in ids and link["target"] in ids for link in exported["links"])
    drawn_as_one = [(n["layer"], n["feature"], n["ctx_idx"]) for n in exported["nodes"]]
    assert len(set(drawn_as_one)) == len(drawn_as_one)
    for node in exported["nodes"]:
        assert node["feature_type"] in TYPES
        layer, slot, position = node["node_id"].split("_")
        assert layer == node["layer"] and (layer == "E" or int(layer) >= 0) and int(position) == node["ctx_idx"]
        assert 0 <= node["ctx_idx"] < len(exported["metadata"]["prompt_tokens"])
        if node["feature_type"] == "logit":
            assert node["clerp"].split("(p=")[1].split(")")[0]  # as both viewers read it
        if node["feature_type"] == "cross layer transcoder" and int(slot) >= 0:
            assert unpaired(node["feature"]) == (int(layer), int(slot))
    assert all(
        isinstance(group, list) and all(m in ids for m in group[1:]) for group in exported["qParams"]["supernodes"]
    )


def unpaired(feature: int) -> tuple[int, int]:
    """The inverse of Cantor's pairing, as Neuronpedia computes it."""
    w = math.floor((math.sqrt(8 * feature + 1) - 1) / 2)
    y = feature - (w * w + w) // 2
    return w - y, y


def made(node_share: float = 0.9) -> Graph:
    lm = made_lm("gpt2")
    frozen = freeze(lm, made_coders(lm, skips=()), made_prompt(6), torch.float64)
    nodes = [Node("logit", position=5, index=3, label=" a"), Node("logit", position=5, index=8, label='"(p=')]
    roots = root_of(frozen, logit_targets(frozen, 5, None, [3, 8]), nodes, [0.7, 0.3])
    return attribution_graph(frozen, roots, [f"t{i}\n" for i in range(6)], node_share, 0.98)


def test_a_models_graph_is_what_viewers_read_and_adds_up() -> None:
    graph = made()
    assert {"position", "attention_bias", "ffn_bias", "error", "latent"} <= {node.kind for node in graph.nodes}
    exported = json.loads(
        json.dumps(viewer_graph(graph, "a-graph", "random gpt2", probability={graph.nodes[0].id: 0.5}))
    )
    check(exported)
    assert len(exported["links"]) == len(graph.weight) and len(exported["nodes"]) == len(graph.nodes)
    entering: dict[str, float] = {}
    for link in exported["links"]:
        entering[link["target"]] = entering.get(link["target"], 0.0) + link["weight"]
    for node in exported["nodes"]:
        own = node["plainspoken"]
        if node["node_id"] in entering:
            whole = entering[node["node_id"]] + own["own_bias"] + own["rest"]
            assert whole == pytest.approx(own["value"], rel=1e-9, abs=1e-12)
    first, second = exported["nodes"][:2]
    assert first["clerp"] == 'Output " a" (p=0.500)' and first["token_prob"] == 0.5 and first["is_target_logit"]
    assert second["clerp"].endswith("(p=unknown)") and second["token_prob"] == 0.0 and not second["is_target_logit"]


def test_the_threshold_of_viewers_keeps_the_strongest_share() -> None:
    graph = made(1.0)
    nodes = viewer_graph(graph, "g", "m")["nodes"]
    shown = [i for i, node in enumerate(nodes) if node["influence"] is not None and node["influence"] <= 0.8]
    hidden = [i for i, node in enumerate(nodes) if node["influence"] is not None and node["influence"] > 0.8]
    assert shown and hidden and graph.influence[shown].min() >= graph.influence[hidden].max()
    assert graph.influence[shown].sum() <= 0.8 * graph.influence[[*shown, *hidden]].sum()


def test_viewers_show_the_whole_graph_at_first_and_their_slider_reaches_all_of_it() -> None:
    """circuit-tracer's viewer hides what is above the threshold of the file, and its slider ends there."""
    exported = viewer_graph(made(1.0), "g", "m")
    above = [n for n in exported["nodes"] if (n["influence"] or 0) > exported["metadata"]["node_threshold"]]
    assert not above and max(node["influence"] or 0 for node in exported["nodes"]) == pytest.approx(1)


def test_the_documents_table_of_ids_is_what_is_written() -> None:
    kinds = {
        kind: kind.replace("_", " ") for kind in get_args(NodeKind) if kind != "own_bias"
    }  # that is of paths alone
    kinds |= {"attention_bias": "bias of attention, of FFN", "ffn_bias": "bias of attention, of FFN"}
    document = (Path(__file__).parents[2] / "docs" / "circuits-format.md").read_text("utf-8")
    table = document.split("| Node | `node_id`")[1].split("\n\n")[0]
    rows = {row.split("|")[1].strip(): row for row in table.split("\n")[2:]}
    assert rows.keys() == set(kinds.values())
    nodes = (Node("direction", label="a"), Node("direction", label="b"), Node("group", 0, 1, label="c"))
    zero = np.zeros(3)
    graph = Graph(nodes, np.zeros(0, int), np.zeros(0, int), np.zeros(0), zero, zero, zero, zero, ("<s>", "b"))
    first, second, group = (node["node_id"].split("_")[1] for node in viewer_graph(graph, "g", "m")["nodes"])
    assert f"{first} - n" in rows["direction"] and int(second) == int(first) - 1 and f"{group} - n" in rows["group"]


def test_every_kind_of_node_has_an_id_of_its_own(tmp_path: Path) -> None:
    nodes = (
        Node("direction", label="a − b"),
        Node("direction", label="c", position=1),
        Node("direction", position=0),
        *(Node("head", 1, p, h, reads=r) for h in (0, 1) for p in (0, 1) for r in (0, 1)),
        *(Node(kind, 1, p) for kind in ("error", "skip") for p in (0, 1)),
        *(Node(kind, layer) for kind in ("attention_bias", "ffn_bias") for layer in (0, 1)),
        *(Node("position", position=p) for p in (0, 1)),
        *(Node("token", position=p, index=4) for p in (0, 1)),
        *(Node("latent", layer, p, i, activation=1.0, text="“x”") for layer in (0, 1) for p in (0, 1) for i in (0, 4)),
    )
    n, none = len(nodes), np.zeros(0, int)
    zero, nan = np.zeros(n, np.float32), np.full(n, np.nan, np.float32)
    graph = Graph(
        nodes, none, none, np.zeros(0), zero, zero, nan, nan, ("<s>", "b"), supernodes=(("pair", (n - 1, 0)),)
    )
    exported = viewer_graph(graph, "g", "m")
    check(exported)
    assert exported["qParams"]["supernodes"] == [["pair", "1_4_1", "3_-100000000_0"]]
    assert "None" not in str([node["clerp"] for node in exported["nodes"]])
    ids = {node["plainspoken"]["id"]: node["node_id"] for node in exported["nodes"]}
    assert ids["error:1@1"] == "1_-1_1" and ids["token:4@1"] == "E_4_1" and ids["latent:0/4@1"] == "0_4_1"
    save_viewer_graph(graph, tmp_path / "g.json", "g", "m")
    assert json.loads((tmp_path / "g.json").read_text()) == exported
    biased = next(node for node in exported["nodes"] if node["plainspoken"]["id"] == "ffn_bias:1")
    assert biased["clerp"] == "bias of FFN L1, at all tokens together"


def test_a_weight_that_is_no_number_is_refused() -> None:
    from dataclasses import replace

    graph = made()
    with pytest.raises(UsageError, match="not finite"):
        viewer_graph(replace(graph, weight=graph.weight * np.nan), "g", "m")
