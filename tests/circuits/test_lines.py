"""The strongest paths are the strongest, and all paths together are the root."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from families_made import made_coders, made_lm, made_prompt
from plainspoken.circuits.attribution import attribution_graph, root_of
from plainspoken.circuits.beside import Said
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.lines import Path, line, node_words, path_lines, sentences_of, strongest_paths
from plainspoken.circuits.targets import logit_targets
from plainspoken.circuits.written import parsed_head
from plainspoken.errors import UsageError


def layered(seed: int, unit: str = "own", given: bool = True) -> Graph:
    """A random acyclic graph that adds up at every node: 4 tokens, three layers of 4 latents, a root."""
    rng = np.random.default_rng(seed)
    nodes = [Node("logit", position=3, index=1, label=" x", value=0.0)]
    nodes += [Node("latent", layer, position=i, index=7, activation=1.0) for layer in (2, 1, 0) for i in range(4)]
    nodes += [Node("token", position=i, index=i, label=f"t{i}") for i in range(4)]
    pairs = [
        (s, t) for t in range(13) for s in range(1 if t == 0 else 5 + 4 * ((t - 1) // 4), 17) if rng.random() < 0.7
    ]
    source, target = (np.array(side) for side in zip(*pairs, strict=True))
    weight = rng.normal(size=len(pairs))
    enters = np.bincount(target, minlength=17) > 0
    offset, rest = rng.normal(size=17) * enters, rng.normal(size=17) * enters
    value = np.bincount(target, weight, 17) + offset + rest
    beyond = rng.normal(size=17) if given and unit == "own" else np.zeros(17)
    nodes = [
        replace(n, value=value[i] if enters[i] else None, activation=value[i] + beyond[i] if 0 < i < 13 else None)
        for i, n in enumerate(nodes)
    ]
    many = np.full(17, np.nan)
    return Graph(tuple(nodes), source, target, weight, offset, rest, many, many, ("a", "b", "c", "d"), unit)  # pyright: ignore[reportArgumentType]


def all_paths(graph: Graph, remainders: bool) -> list[Path]:
    """Every path to node 0, by plain recursion."""
    found: list[Path] = []

    def follow(nodes: tuple[int, ...], product: float) -> None:
        at = graph.nodes[nodes[-1]]
        entering = np.flatnonzero(graph.target == nodes[-1])
        if not len(entering):
            if len(nodes) > 1:
                found.append(Path(nodes, product))
            return
        out = at.activation if graph.unit == "own" and at.activation is not None else at.value
        scale = product if len(nodes) == 1 else product / out  # pyright: ignore[reportOperatorIssue]
        for edge in entering:
            follow((*nodes, int(graph.source[edge])), scale * graph.weight[edge])
        if remainders:
            found.append(Path(nodes, scale * graph.offset[nodes[-1]], "own bias"))
            found.append(Path(nodes, scale * graph.rest[nodes[-1]], "pruned"))
            if len(nodes) > 1 and graph.unit == "own":
                found.append(Path(nodes, scale * (out - at.value), "given"))  # pyright: ignore[reportOperatorIssue]

    follow((0,), 1.0)
    return sorted((p for p in found if p.contribution != 0), key=lambda path: -abs(path.contribution))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("unit", ["own", "root"])
@pytest.mark.parametrize("remainders", [False, True])
def test_the_k_strongest_are_those_of_brute_force(seed: int, unit: str, remainders: bool) -> None:
    graph = layered(seed, unit)
    brute = all_paths(graph, remainders)
    assert len(brute) > 50
    for k in (1, 7, len(brute), len(brute) + 5):
        found = strongest_paths(graph, 0, k, remainders)
        assert [path.nodes for path in found] == [path.nodes for path in brute[:k]]
        assert [path.end for path in found] == [path.end for path in brute[:k]]
        np.testing.assert_allclose([p.contribution for p in found], [p.contribution for p in brute[:k]], rtol=1e-9)


@pytest.mark.parametrize("unit", ["own", "root"])
def test_all_paths_with_the_remainders_are_the_roots_value(unit: str) -> None:
    graph = layered(3, unit)
    total = sum(path.contribution for path in strongest_paths(graph, 0, 10**6, remainders=True))
    assert total == pytest.approx(graph.nodes[0].value, rel=1e-9)


def test_an_inhibiting_path_is_found_with_its_sign() -> None:
    nodes = (
        Node("logit", position=1, index=0, label=" x", value=-1.5),
        Node("latent", 0, 1, 5, value=2.0, activation=2.0, text="a bracket\nopens"),
        Node("token", position=0, index=3, label="(\n"),
        Node("token", position=1, index=4, label="b"),
    )
    edges = np.array([1, 3, 2]), np.array([0, 0, 1]), np.array([-2.0, 0.5, 2.0])
    graph = Graph(nodes, *edges, np.zeros(4), np.zeros(4), np.ones(4), np.ones(4), ("(\n", "b"))
    assert path_lines(graph, strongest_paths(graph, 0)) == (
        '−2  logit " x"@1 ← L0/5@1 ← token "(\\n"@0',
        '+0.5  logit " x"@1 ← token "b"@1',
    )


def test_paths_of_a_model_are_its_logit() -> None:
    """On a real graph with nothing pruned: embeddings, errors, biases and own biases, along all paths."""
    lm = made_lm("gpt2", layers=2)
    frozen = freeze(lm, made_coders(lm, at=(0, 1), skips=(), k=3), made_prompt(4), torch.float64)
    node = Node("logit", position=3, index=5, label="x")
    roots = root_of(frozen, logit_targets(frozen, 3, None, [5]), [node])
    graph = attribution_graph(frozen, roots, ["a", "b", "c", "d"], 1.0, 1.0)
    paths = strongest_paths(graph, 0, 10**6, remainders=True)
    assert sum(p.contribution for p in paths) == pytest.approx(float(frozen.logits[3, 5] - frozen.logits[3].mean()))
    assert not any(p.end == "given" and abs(p.contribution) > 1e-9 for p in paths)


def test_lines_tell_every_kind_of_node_on_one_line() -> None:
    nodes = [
        Node("logit", position=11, index=3, label=" self"),
        Node("latent", 3, 11, 412, text="the opening bracket of a method,\n at length " * 3),
        Node("head", 2, 4, 1, reads=11),
        Node("latent", 1, 4, 88),
        Node("token", position=4, index=9, label='"\n'),
    ]
    shown = line(0.8312, nodes, [])
    assert shown == (r'+0.831  logit " self"@11 ← L3/412@11 ← head 2/1 (@4→@11) ← L1/88@4 ← token "\"\n"@4')
    assert sentences_of(nodes) == {"L3/412": Said(nodes[1].text or "")}
    assert node_words(nodes[1]) == 'L3/412@11 "the opening bracket of a method, at length the…"'
    told = node_words(replace(nodes[1], text="a bracket", fidelity=-0.126))
    assert told == 'L3/412@11 "a bracket" (−0.13)' and "(" not in node_words(replace(nodes[1], text=None, fidelity=0.5))
    assert [Said("a", each).brackets for each in (0.786, 1.0, None, float("nan"))] == [" (0.79)", " (1.00)", "", ""]
    assert line(-2e-6, nodes[:1], [], "pruned") == '−2.00e-06  logit " self"@11 ← what was pruned'
    assert line(0.0, nodes[:1], []).startswith("0  ")
    others = [Node("position", position=1), Node("attention_bias", 2), Node("ffn_bias", 2), Node("error", 2, 1)]
    told = [node_words(node, ["a", " b"]) for node in (*others, Node("skip", 2, 1), Node("direction", label="a − b"))]
    assert told == [
        'position 1 of " b"',
        "bias of attention L2",
        "bias of FFN L2",
        "error L2@1",
        "skip L2@1",
        'direction "a − b"',
    ]


def test_what_cannot_be_told_is_refused() -> None:
    graph = layered(0)
    with pytest.raises(UsageError, match="no node 17 in a graph of 17 nodes"):
        strongest_paths(graph, 17)
    between = int(graph.source[np.flatnonzero(graph.target == 0)[0]])
    dead = replace(
        graph, nodes=tuple(replace(n, activation=0.0) if i == between else n for i, n in enumerate(graph.nodes))
    )
    with pytest.raises(UsageError, match=r"puts out 0\.0"):
        strongest_paths(dead, 0)


def test_a_graph_with_a_circle_has_no_paths_and_says_why() -> None:
    nodes = (Node("logit", value=1.0, label="x"), Node("group", label="a", activation=1.0, value=1.0))
    nodes = (*nodes, Node("latent", 1, 0, 0, value=1.0, activation=1.0))
    zero = np.zeros(3)
    circle = Graph(nodes, np.array([1, 2, 1]), np.array([0, 1, 2]), np.ones(3), zero, zero, zero, np.ones(3), ("a",))
    with pytest.raises(UsageError, match="group nodes of one layer"):
        strongest_paths(circle, 0)


def test_a_sentence_is_told_once_however_many_paths_pass_its_latent() -> None:
    graph = layered(2).with_nodes(
        lambda n: (
            replace(n, text=f"the {n.layer}th, “7 ← 8”", fidelity=0.5) if n.kind == "latent" and n.layer != 1 else n
        )
    )
    paths = strongest_paths(graph, 0, 200)
    lines = path_lines(graph, paths)
    passing = [each for each in lines if "L2/7@" in each]
    assert len(passing) > 5 and all("“7 ← 8”" not in each for each in lines)
    on_them = [graph.nodes[i] for path in paths for i in path.nodes]
    assert sentences_of(on_them) == {f"L{layer}/7": Said(f"the {layer}th, “7 ← 8”", 0.5) for layer in (0, 2)}
    assert sentences_of(node for node in on_them if node.layer == 1) == {}


def test_a_difference_of_logits_reads_as_it_does_above_its_paths() -> None:
    difference = Node("direction", position=11, label="'self' − ')'")
    assert node_words(difference) == "'self' − ')' @11"
    assert line(0.5, [difference, Node("token", position=4, label="(")], []) == "+0.5  'self' − ')' @11 ← token \"(\"@4"
    assert node_words(replace(difference, position=None, label="' − ' − \"'\"")) == "' − ' − \"'\""
    assert node_words(replace(difference, label="of my own")) == 'direction "of my own"@11'


def test_a_head_is_written_as_options_take_it() -> None:
    told = node_words(Node("head", 2, 4, 1, reads=11))
    name, _, _ = told.partition(" (")
    assert name == "head 2/1"
    assert parsed_head(name) == parsed_head("2/1") == parsed_head("2.1") == (2, 1)
