"""What a trace leaves in its folder beside the graph: graphs of paths with heads, edges by head, nothing of before."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plainspoken import pipeline
from plainspoken.circuits.files import load_graph
from plainspoken.circuits.lines import node_words
from plainspoken.circuits.paths import CONSTANT
from plainspoken.circuits.supernodes import by_latent
from plainspoken.cli.app import app

PROMPT = "Story 1. Lily saw the"


def test_paths_with_heads_are_kept_as_the_graph_that_they_merge_to(copy: Path) -> None:
    """Its nodes are those of the printed paths and, of all layers together, what errors and constants these lack."""
    found = pipeline.trace(copy, PROMPT, "logits", heads=True, paths=12)
    names = [name for name in found.files if name.startswith("paths-")]
    assert names == [f"paths-{i}.json" for i in range(found.graph.about["roots"])] and len(names) > 1
    for i, name in enumerate(names):
        graph, root = load_graph(found.files[name]), found.graph.nodes[i]
        assert graph.unit == "root" and graph.nodes[0].id == root.id and graph.about["roots"] == 1
        assert graph.nodes[0].value == pytest.approx(root.value, rel=1e-4)
        printed = [line.split("  ", 1) for line in found.paths[root.id]]
        words = {word for _, path in printed for word in path.split(" ← ")}
        own = [node for node in graph.nodes if node.layer is not None or node.kind not in CONSTANT]
        told = {node_words(replace(node, text=None), graph.tokens) for node in own}
        assert told == {word for word in words if not word.startswith("own bias")}
        for n, node in enumerate(graph.nodes):
            into, onward = graph.weight[graph.target == n], graph.weight[graph.source == n]
            if node.value is not None:
                assert into.sum() + graph.offset[n] + graph.rest[n] == pytest.approx(node.value, abs=1e-9)
            assert n == 0 or node.value is None or onward.sum() == pytest.approx(node.value, abs=1e-9)
        # A node where paths end has what they bring, by whatever ways; several may end at one.
        ends = {node_words(replace(node, text=None), graph.tokens): n for n, node in enumerate(graph.nodes)}
        brought: dict[str, float] = {}
        for weight, path in printed:
            last = path.split(" ← ")[-1]
            brought[last] = brought.get(last, 0.0) + float(weight.replace("−", "-"))
        last_alone = {word for word in brought if word in ends and graph.nodes[ends[word]].value is None}
        assert last_alone
        for word in last_alone:
            assert graph.weight[graph.source == ends[word]].sum() == pytest.approx(brought[word], rel=0.02, abs=1e-3)


def test_the_graph_of_paths_tells_sentences_and_groups_as_the_other_does(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, "logits", heads=True, group=True, paths=60)
    graphs = [load_graph(path) for name, path in found.files.items() if name.startswith("paths-")]
    known = {node.id: node.text for node in found.graph.nodes}
    latents = [node for graph in graphs for node in graph.nodes if node.kind == "latent" and node.id in known]
    assert any(node.text for node in latents) and all(node.text == known[node.id] for node in latents)
    for graph in graphs:
        assert {name: [graph.nodes[i].id for i in m] for name, m in graph.supernodes} == by_latent(graph)
    assert any(graph.supernodes for graph in graphs)


def test_paths_that_none_are_printed_of_are_a_root_and_what_is_not_on_them(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, "logits", heads=True, paths=0)
    graph = load_graph(found.files["paths-0.json"])
    assert all(node.layer is None and node.kind in CONSTANT for node in graph.nodes[1:])
    assert graph.weight.sum() + graph.offset[0] + graph.rest[0] == pytest.approx(graph.nodes[0].value)


def test_the_verb_lists_graphs_of_paths_and_edges_by_head(copy: Path) -> None:
    asked = ["trace", copy, "--prompt", PROMPT, "--heads", "--by-head", 1, "--out", copy / "here"]
    result = CliRunner().invoke(app, [str(each) for each in asked])
    assert result.exit_code == 0, result.output
    for name in ("paths-0.json", "by_head.json"):
        assert f"{name}: {copy / 'here' / name}" in result.output and (copy / "here" / name).is_file()


def test_a_trace_made_anew_leaves_nothing_of_what_was_asked_for_before(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    mine = [out / "paths-mine.json", out / "notes-0.json"]
    had = pipeline.trace(copy, PROMPT, simulated=True, heads=True, by_head=1, group=True, node_share=1.0, out=out).files
    for each in mine:
        each.write_text("")
    assert {"paths-0.json", "by_head.json", "true.json"} <= {path.name for path in out.iterdir()}
    files = pipeline.trace(copy, PROMPT, out=out).files
    assert set(files) < set(had)
    kept = {path.name for path in out.iterdir()}
    [tensors] = [name for name in kept if name.endswith(".safetensors")]
    assert kept == {*files, tensors, *(each.name for each in mine)} and tensors.startswith("graph-")


def test_edges_by_head_are_kept_with_all_heads_and_sum_to_the_graphs_edges(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, "logits", by_head=3, paths=4)
    graph = load_graph(found.files["graph.json"])
    kept = json.loads(found.files["by_head.json"].read_text())
    assert (kept["format"], kept["version"]) == ("plainspoken edges by head", 1)
    assert kept["about"] == json.loads(json.dumps(graph.about))
    ends = list(zip(graph.source.tolist(), graph.target.tolist(), strict=True))
    weight = {(graph.nodes[s].id, graph.nodes[t].id): float(graph.weight[e]) for e, (s, t) in enumerate(ends)}
    told = [(each["source"], each["target"]) for each in kept["edges"]]
    assert len(set(told)) == len(told) and set(told) <= set(weight), "each edge once, though roots share latents"
    strongest = [
        [weight[graph.nodes[graph.source[e]].id, root] for e in graph.incoming(graph.number[root])[:3]]
        for root in found.by_head
    ]
    assert [[each["weight"] for each in kept["edges"] if each["target"] == root] for root in found.by_head] == strongest
    assert any(each["heads"] for each in kept["edges"])
    for each, name in zip(kept["edges"], told, strict=True):
        heads = [head["weight"] for head in each["heads"]]
        assert each["weight"] == weight[name]
        assert sum(heads) + each["none"] == pytest.approx(weight[name], rel=1e-4, abs=1e-5)
        assert heads == sorted(heads, key=abs, reverse=True)
        places = {(head["layer"], head["head"]) for head in each["heads"]}
        assert len(places) == len(heads) and all(layer in (0, 1) for layer, _ in places)


def test_effects_of_another_trace_do_not_stay_beside_a_graph(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    assert "effects.json" in pipeline.trace(copy, PROMPT, effects=2, out=out).files
    assert (out / "effects.html").is_file()
    assert "effects.json" not in pipeline.trace(copy, PROMPT, out=out).files
    assert not list(out.glob("effects.*"))
