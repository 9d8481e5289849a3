"""The strongest paths of a graph, as lines that a reader can follow.

What reaches a root along a path is, in the frozen model with every latent on it free to move with its own value,
w(e_0) · Π w(e_i) / z_i: e_0 enters the root, e_i enters the i-th node on the way, and z_i is what that node puts out,
since an edge out of it carries z_i times a direction. The paths of a graph are more than can be listed, but the graph
is acyclic: the most that can come yet from each node is known by one pass up from the sources, and a search that
follows the largest bound first meets the paths in the order of their strength.
"""

import heapq
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Literal

import numpy as np

from plainspoken.circuits.beside import Said, said_of
from plainspoken.circuits.graph import Graph, Node
from plainspoken.errors import UsageError

End = Literal["source", "own bias", "pruned", "given"]
"""Where a path starts: at a node that nothing enters, or with a part of its last node's activation that comes by no
edge: its own bias, the sources that were pruned, or what was given in the place of its value (a simulated one)."""

_REPR = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_CALLED = rf"(?:{_REPR}|#\d+)"
DIFFERENCE = re.compile(f"{_CALLED} − {_CALLED}", re.DOTALL)
"""What a direction is called that is one token's logit less another's."""
LONGEST = 48
"""Characters of an explanation on a line."""


@dataclass(frozen=True)
class Path:
    """One way from a source to a root: `nodes` by number, the root first. `contribution`: in the root's own units."""

    nodes: tuple[int, ...]
    contribution: float
    end: End = "source"


@dataclass(frozen=True)
class _Step:
    """A part of a node's activation: by an edge from `source`, or (None) by what `end` says."""

    share: float
    source: int | None
    end: End


def strongest_paths(graph: Graph, root: int, k: int = 10, remainders: bool = False) -> tuple[Path, ...]:
    """The k paths to a root (its number) that contribute most in absolute terms, exactly, strongest first.

    `remainders`: paths may also start with an own bias, with what was pruned, or with what was given in the place of a
    node's value; the contributions of all paths are then the root's value. Raises UsageError where a node that lies
    between puts out nothing, or where the graph has no such node.
    """
    if not 0 <= root < len(graph.nodes):
        raise UsageError(f"no node {root} in a graph of {len(graph.nodes)} nodes: name one of them as the root")
    return tuple(_Search(graph, root, remainders).strongest(k))


class _Search:
    """Best-first search from a root; the bounds are reached, so that paths come in the order of their strength."""

    def __init__(self, graph: Graph, root: int, remainders: bool) -> None:
        self._graph, self._root, self._remainders = graph, root, remainders
        self._steps: dict[int, list[_Step]] = {}
        self._most: dict[int, float] = {}
        for node in self._sources_first():
            steps = self._parts(node)
            steps.sort(key=lambda step: -self._bound(step))
            self._steps[node] = steps
            self._most[node] = self._bound(steps[0]) if steps else float(node not in self._entering)

    @cached_property
    def _entering(self) -> dict[int, list[int]]:
        """The edges into each node that anything enters."""
        found: dict[int, list[int]] = {}
        for edge, target in enumerate(self._graph.target.tolist()):
            found.setdefault(target, []).append(edge)
        return found

    def _sources_first(self) -> list[int]:
        """All nodes above the root, each after those that enter it."""
        found: list[int] = []
        state: dict[int, bool] = {}
        stack = [(self._root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                state[node] = True
                found.append(node)
            elif node not in state:
                state[node] = False
                stack.append((node, True))
                for edge in self._entering.get(node, ()):
                    source = int(self._graph.source[edge])
                    if not state.get(source, True):
                        raise UsageError(
                            "what leaves a node of this graph comes back to it, so that it has no paths: a supernode "
                            "holds nodes that others stand between; group nodes of one layer, or all between as well"
                        )
                    stack.append((source, False))
        return found

    def _parts(self, node: int) -> list[_Step]:
        graph, edges = self._graph, self._entering.get(node, [])
        out = 1.0 if node == self._root else _put_out(graph, node) if edges else math.nan
        if edges and (not math.isfinite(out) or out == 0):
            raise UsageError(
                f"node {graph.nodes[node].id} has edges in and out and puts out {out}: no share of it can be told; "
                "trace the circuit again"
            )
        steps = [_Step(float(graph.weight[e]) / out, int(graph.source[e]), "source") for e in edges]
        if self._remainders and (edges or node == self._root):
            rest: list[tuple[End, float]] = [("own bias", graph.offset[node]), ("pruned", graph.rest[node])]
            if node != self._root and graph.unit == "own":
                rest.append(("given", out - (graph.nodes[node].value or 0.0)))
            steps += [_Step(float(part) / out, None, end) for end, part in rest if part != 0]
        return [step for step in steps if step.share != 0]

    def _bound(self, step: _Step) -> float:
        """The most that a path can keep that goes on by this step."""
        return abs(step.share) * (1.0 if step.source is None else self._most[step.source])

    def strongest(self, k: int) -> list[Path]:
        """The k strongest. A state is a way that has been gone and the rank of the step that is tried next."""
        found: list[Path] = []
        order, heap = count(), []

        def push(nodes: tuple[int, ...], product: float, rank: int) -> None:
            steps = self._steps[nodes[-1]]
            if rank < len(steps) and (bound := abs(product) * self._bound(steps[rank])) > 0:
                heapq.heappush(heap, (-bound, next(order), nodes, product, rank))

        push((self._root,), 1.0, 0)
        while heap and len(found) < k:
            _, _, nodes, product, rank = heapq.heappop(heap)
            step = self._steps[nodes[-1]][rank]
            push(nodes, product, rank + 1)
            if step.source is None:
                found.append(Path(nodes, product * step.share, step.end))
            elif step.source not in self._entering:
                found.append(Path((*nodes, step.source), product * step.share))
            else:
                push((*nodes, step.source), product * step.share, 0)
        return sorted(found, key=lambda path: -abs(path.contribution))


def _put_out(graph: Graph, node: int) -> float:
    """What the edges out of a node carry, in the units of the edges into it."""
    at = graph.nodes[node]
    out = at.activation if graph.unit == "own" and at.activation is not None else at.value
    return math.nan if out is None else out


def path_lines(graph: Graph, paths: Sequence[Path]) -> tuple[str, ...]:
    """A line a path: its contribution, then the nodes from the root down."""
    return tuple(
        line(path.contribution, [graph.nodes[i] for i in path.nodes], graph.tokens, path.end) for path in paths
    )


def line(contribution: float, nodes: Sequence[Node], tokens: Sequence[str], end: End = "source") -> str:
    """`+0.83  logit " self"@11 ← L3/412@11 ← head 2/1 (@4→@11) ← token "def"@4`: latents by name alone, since the
    strongest paths pass the same few over and over; their sentences are `sentences_of`."""
    told = [node_words(replace(node, text=None), tokens) for node in nodes]
    if end != "source":
        told.append({"own bias": "its own bias", "pruned": "what was pruned", "given": "what was given"}[end])
    return f"{signed(contribution)}  {' ← '.join(told)}"


def sentences_of(nodes: Iterable[Node]) -> dict[str, Said]:
    """The sentences of nodes that have one, by their names in lines, each once, in the order in which they are met."""
    return {node_words(replace(node, text=None, position=None)): said_of(node) for node in nodes if node.text}


def node_words(node: Node, tokens: Sequence[str] = ()) -> str:
    """A node as a reader knows it; of a latent, its explanation where it has one, and how well that foretells it."""
    place = "" if node.position is None else f"@{node.position}"
    layer = "of all layers" if node.layer is None else f"L{node.layer}"
    match node.kind:
        case "latent":
            return f"L{node.layer}/{node.index}{place}{_explained(node)}"
        case "head":
            return f"head {node.layer}/{node.index} (@{node.position}→@{node.reads})"
        case "token" | "logit":
            name = f" {quoted(node.label)}" if node.label else f":#{node.index}"
            return f"{node.kind}{name}{place}"
        case "direction":
            if DIFFERENCE.fullmatch(node.label):  # the place is that of both, so that it stands apart
                return f"{node.label} {place}".rstrip()
            return f"direction {quoted(node.label)}{place}" if node.label else f"direction{place}"
        case "group":
            return f"group {quoted(node.label)}{place}{_explained(node)}"
        case "own_bias":
            return f"own bias{place}"
        case "error" | "skip":
            return f"{node.kind} {layer}{place}"
        case "position":
            at = node.position or 0
            return f"position {at}" + (f" of {quoted(tokens[at])}" if at < len(tokens) else "")
        case "attention_bias":
            return f"bias of attention {layer}{place}"
        case "ffn_bias":
            return f"bias of FFN {layer}{place}"


def _explained(node: Node) -> str:
    return f" {quoted(node.text, LONGEST)}{said_of(node).brackets}" if node.text else ""


def signed(value: float) -> str:
    """Three significant digits and a sign; a true minus."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    shown = np.format_float_positional(value, precision=3, unique=False, fractional=False, trim="-")
    size = shown.lstrip("-")
    if abs(value) < 1e-4 and value != 0:
        size = f"{abs(value):.2e}"
    return f"{'−' if value < 0 else '+'}{size}"


def quoted(text: str, longest: int | None = None) -> str:
    """The text on one line between quotation marks, cut at a word where it is long."""
    shown = " ".join(text.split()) if longest is not None else _visible(text)
    if longest is not None and len(shown) > longest:
        head, cut, _ = shown[:longest].rpartition(" ")
        shown = (head if cut and len(head) > longest // 2 else shown[: longest - 1]).rstrip() + "…"
    return f'"{shown}"'


def _visible(text: str) -> str:
    """A token's text with what cannot be seen, or would break the line, escaped."""
    return "".join(_escaped(c) for c in text)


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else character.encode("unicode_escape").decode()
