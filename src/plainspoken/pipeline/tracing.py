"""Trace: from a latent or a logit at a prompt back to the words, as a graph, its strongest paths and a drawing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.asking import Asked, root_asked
from plainspoken.circuits.attribution import Root, attribution_graph
from plainspoken.circuits.beside import SOFT_CAP, Said
from plainspoken.circuits.effects import Effects, effects
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Graph
from plainspoken.circuits.heads import EdgesByHead, edge_lines, edges_by_head
from plainspoken.circuits.heads_file import save_edges_by_head
from plainspoken.circuits.lines import line, path_lines, sentences_of, strongest_paths
from plainspoken.circuits.merge import merged
from plainspoken.circuits.parting import Parting, overlap, parting
from plainspoken.circuits.paths import strongest_paths as greedy_paths
from plainspoken.circuits.supernodes import by_latent, grouped
from plainspoken.pipeline.circuit import Prompt, RunCircuits
from plainspoken.pipeline.folder_name import folder_name
from plainspoken.pipeline.trace_files import write_trace
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store.atomic import storage_error
from plainspoken.types import Site

SHUFFLES = 3
"""Draws of the control of shuffled sentences: each is a trace of its own."""
HEAD_ROUNDS = 4
"""Steps of a path with its heads, at most."""


@dataclass(frozen=True)
class TraceSettings:
    """How a circuit is traced and what is kept of it."""

    node_share: float = 0.8
    """Nodes are kept until they have this share of the influence."""
    edge_share: float = 0.98
    """Edges likewise, of those between kept nodes."""
    paths: int = 10
    """Paths shown, strongest first, for each thing that is explained."""
    simulated: bool = False
    """Trace with what the sentences say in the place of the true activations, and tell where the two part."""
    heads: bool = False
    """Show the heads that paths pass, as a greedy search finds them, in the place of the graph's strongest paths.

    The graph that these paths merge to is kept too, one for each root: its weights are in units of that root.
    """
    silent: bool = False
    """A latent may be explained where it does not fire: what holds it down."""
    effects: int = 0
    """Latents of most influence to ablate, and as many others as a control: what edges predict against what happens."""
    group: bool = False
    """A latent at several tokens is one supernode, and a second drawing has it as one node."""
    by_head: int = 0
    """Strongest edges into each root, and each latent on the paths shown, that are told by their heads."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A circuit and where it was written. `parts`: true against simulated, where that was asked for.

    `effects`: predicted and measured, where that was asked for and the graph has a latent to ablate.
    """

    graph: Graph
    prompt: Prompt
    paths: Mapping[str, Sequence[str]]
    """By what is explained, in words: its strongest paths, a line each."""
    by_head: Mapping[str, Sequence[str]]
    """Likewise, where that was asked for: its strongest edges, and those of latents on its paths, by their heads."""
    without_coder: Sequence[int]
    parts: Sequence[Parting]
    overlap: float | None
    shuffled: float | None
    """The overlap where each latent is simulated by another's sentence, mean over draws: the control.

    None where there can be none, or nothing has influence.
    """
    effects: Effects | None
    files: Mapping[str, Path]
    grouped: bool = False
    """Whether latents at several tokens were to be supernodes."""
    probability: Mapping[str, float] = field(default_factory=dict)
    """Of each next token that is explained, by its node's id."""
    shuffled_draws: Sequence[float] = ()
    """What `shuffled` is the mean of."""
    sentences: Mapping[str, Mapping[str, Said]] = field(default_factory=dict)
    """By what is explained, as `paths`: the sentences of the latents on its paths, by their names there."""


def trace(workplace: Workplace, text: str, target: Asked, settings: TraceSettings, out: Path | None = None) -> Traced:
    """Trace a target at a prompt and write what was found. The run must be brought up to what `settings` need.

    Raises UsageError for a prompt or a target that does not fit, CoderError and ModelError as `freeze` does.
    """
    circuits = RunCircuits(workplace)
    prompt = circuits.prompt(text)
    question = _Question(workplace, circuits, prompt, text, target, settings)
    true = _traced(question, None)
    label = "tracing with simulated activations"
    found = _traced(question, circuits.simulated(prompt), label) if settings.simulated else true
    graph = found.graph
    parts, common, draws = _parted(question, true, found)
    show = _with_heads if settings.heads else _through_heads
    shown = {graph.nodes[root].id: show(circuits, found, root, settings.paths) for root in range(graph.about["roots"])}
    paths = {name: each.lines for name, each in shown.items()}
    by_head = _by_head(found, shown.values(), settings.by_head)
    folder = out or workplace.path("trace") / _folder_name(text, target, settings)
    measured = _effects(workplace, circuits, found, settings.effects)
    merges = {f"paths-{i}.json": each.graph for i, each in enumerate(shown.values()) if each.graph is not None}
    graphs = {name: _grouped(each, settings) for name, each in merges.items()}
    graphs |= {"true.json": true.graph} if settings.simulated else {}
    control = float(np.mean(draws)) if draws else None
    overlaps = {"overlap": common, "overlap_shuffled": control, "overlap_shuffled_draws": draws}
    try:
        files = write_trace(folder, graph, _probabilities(found), graphs, parts, overlaps, measured)
        if settings.by_head:
            files["by_head.json"] = folder / "by_head.json"
            save_edges_by_head(graph, by_head.values(), files["by_head.json"])
    except OSError as error:
        raise storage_error(error, folder) from error
    told = {name: _told_by_head(graph, each.nodes, by_head) for name, each in shown.items() if settings.by_head}
    return Traced(
        graph, prompt, paths, told, circuits.without_coder(), parts, common, control, measured, files,
        settings.group, _probabilities(found), draws, {name: each.sentences for name, each in shown.items()},
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Question:
    """What is asked, of which run's circuits."""

    workplace: Workplace
    circuits: RunCircuits
    prompt: Prompt
    text: str
    target: Asked
    settings: TraceSettings


@dataclass(frozen=True, eq=False)
class _Found:
    frozen: Frozen
    root: Root
    graph: Graph


def _parted(question: _Question, true: _Found, found: _Found) -> tuple[list[Parting], float | None, list[float]]:
    """(where true and simulated circuit part, what they have in common, the same of draws of shuffled sentences)."""
    if not question.settings.simulated:
        return [], None, []
    parts = parting((true.frozen, true.graph), (found.frozen, found.graph))
    return parts, overlap(true.graph, found.graph), _control(question, true)


def _control(question: _Question, true: _Found) -> list[float]:
    circuits, prompt, found = question.circuits, question.prompt, []
    for draw in range(SHUFFLES):
        shuffles = circuits.shuffles(prompt, draw)
        if shuffles is None:
            return []
        traced = _traced(question, circuits.simulated(prompt, shuffles), f"tracing with shuffled sentences, {draw + 1}")
        found.append(overlap(true.graph, traced.graph))
    return [each for each in found if each is not None]


def _traced(
    question: _Question, given: Mapping[Site, Float[Tensor, "t latents"]] | None, label: str = "tracing"
) -> _Found:
    """The circuit of true activations, or of the given ones, which `settings.simulated` then tells."""
    circuits, prompt, target = question.circuits, question.prompt, question.target
    settings = replace(question.settings, simulated=given is not None)
    frozen = circuits.frozen(prompt, torch.float32, given)
    # Whether it may be silent the true circuit has told: that of the sentences is asked of the same latent.
    root = root_asked(frozen, target, silent=settings.silent or settings.simulated)
    with question.workplace.progress.track(f"{label} (rows)", None) as advance:
        graph = attribution_graph(frozen, root, prompt.spelled, settings.node_share, settings.edge_share, advance)
    about = circuits.about(
        prompt=question.text, target=asdict(target), settings=asdict(settings), roots=len(root.nodes)
    )
    if (cap := frozen.anatomy.softcap) is not None:
        about[SOFT_CAP] = cap
    graph = replace(_grouped(graph, settings), about=about).with_nodes(circuits.tell)
    return _Found(frozen, root, graph)


def _grouped(graph: Graph, settings: TraceSettings) -> Graph:
    return grouped(graph, by_latent(graph)) if settings.group else graph


@dataclass(frozen=True)
class _Paths:
    """Lines to show, and the graph's nodes on them that anything enters, the root first.

    `graph`: what the lines merge to; None where they are paths of the graph that is kept anyway.
    """

    lines: Sequence[str]
    sentences: Mapping[str, Said]
    nodes: Sequence[int]
    graph: Graph | None = None


def _through_heads(circuits: RunCircuits, found: _Found, root: int, most: int) -> _Paths:
    """The strongest paths of the graph, whichever heads they pass."""
    paths = strongest_paths(found.graph, root, most)
    on_them = [node for path in paths for node in path.nodes]
    said = sentences_of(found.graph.nodes[i] for i in on_them)
    return _Paths(path_lines(found.graph, paths), said, _entered(found.graph, [root, *on_them]))


def _with_heads(circuits: RunCircuits, found: _Found, root: int, most: int) -> _Paths:
    """Paths with the heads that they pass, from a greedy search; some of its nodes the graph may not have."""
    tokens = found.graph.tokens
    node = found.graph.nodes[root]
    paths = greedy_paths(
        found.frozen, found.root.targets[root : root + 1], node, tokens, HEAD_ROUNDS, keep=max(most, 1)
    )
    kept = paths.rounds[-1][:most]
    steps = {path: [circuits.tell(paths.nodes[i]) for i in paths.steps(path)] for path in kept}
    lines = [line(float(paths.weight[path]), nodes, tokens) for path, nodes in steps.items()]
    on_them = [each for nodes in steps.values() for each in nodes]
    known = [found.graph.number[each.id] for each in on_them if each.id in found.graph.number]
    # The errors and constants that these paths leave out are nodes too, and what else they do is a number at each node.
    graph = merged(paths.only(kept), tokens, whole=True).with_nodes(circuits.tell)
    graph = replace(graph, about=found.graph.about | {"roots": 1})
    return _Paths(lines, sentences_of(on_them), _entered(found.graph, [root, *known]), graph)


def _entered(graph: Graph, nodes: Sequence[int]) -> list[int]:
    """Those that edges lead to, each once."""
    entered = {*graph.target.tolist()}
    return [node for node in dict.fromkeys(nodes) if node in entered]


def _by_head(found: _Found, shown: Iterable[_Paths], count: int) -> dict[int, EdgesByHead]:
    """The strongest edges into each node that is shown, each node once: several roots may have paths through it."""
    nodes = dict.fromkeys(node for each in shown for node in each.nodes) if count else ()
    edges = {node: found.graph.incoming(node)[:count] for node in nodes}
    return edges_by_head(found.frozen, found.graph, edges, found.root)


def _told_by_head(graph: Graph, nodes: Sequence[int], by_head: Mapping[int, EdgesByHead]) -> tuple[str, ...]:
    return tuple(line for node in nodes for line in edge_lines(graph, by_head[node]))


def _effects(workplace: Workplace, circuits: RunCircuits, found: _Found, n: int) -> Effects | None:
    """None where none were asked for, or the graph has no latent below its roots."""
    below = found.graph.nodes[len(found.root.nodes) :]
    if n == 0 or not any(node.kind == "latent" for node in below):
        return None
    with workplace.progress.track("ablating latents", None) as advance:
        measured = effects(found.frozen, found.root, found.graph, n, workplace.config.seed, advance)
    control = replace(measured.control, latents=tuple(map(circuits.tell, measured.control.latents)))
    return replace(measured, control=control)


def _probabilities(found: _Found) -> dict[str, float]:
    """Of each next token that is explained, how likely the model has it; of a difference or a latent there is none."""
    logits = [node for node in found.root.nodes if node.kind == "logit"]
    return {node.id: float(found.frozen.probabilities[node.position, node.index]) for node in logits}


def _folder_name(text: str, target: Asked, settings: TraceSettings) -> str:
    told = {"target": asdict(target), "settings": asdict(settings)}
    return folder_name(text, " ".join([target.kind, *map(str, target.tokens)]), told)
