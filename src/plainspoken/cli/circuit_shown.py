"""A traced circuit on the terminal: its paths, its edges by head, its supernodes, where simulated and true part."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from plainspoken.cli.hanging import WORD, WORD_OR_TOKEN, hanging
from plainspoken.cli.show import OUT
from plainspoken.language.counted import agreeing, counted

if TYPE_CHECKING:  # they bring torch
    from plainspoken.circuits.beside import Said
    from plainspoken.circuits.graph import Graph, Node
    from plainspoken.circuits.parting import Parting
    from plainspoken.pipeline.tracing import Traced

_ROOTS_SHOWN, _PARTS_SHOWN = 3, 8
WORDS_SHOWN = 140
"""Characters of a sentence: two lines of a terminal."""


def show_traced(found: "Traced") -> None:
    """The likeliest roots with their paths, then each latent's sentence, groups, and where sentences part."""
    from plainspoken.circuits.beside import brackets_told, said_of

    graph, likely = found.graph, found.probability
    if found.without_coder:
        layers = ", ".join(map(str, found.without_coder))
        _hung(
            f"No coder at layer {layers}: what its FFN does there is error in the graph. A run with one at every FFN "
            "(plainspoken run --site '…layers.*.mlp') explains more.",
            style="dim",
        )
    roots = sorted(range(graph.about["roots"]), key=lambda i: -likely.get(graph.nodes[i].id, 0.0))
    sentences: dict[str, Said] = {}
    for i in roots[:_ROOTS_SHOWN]:
        name = graph.nodes[i].id
        _hung(_root_told(graph, i, likely.get(name), found.overlap is not None), indent=2, style="bold")
        sentences |= found.sentences[name]
        for line in found.paths[name]:
            _hung(f"  {line}")
        if edges := found.by_head.get(name, ()):
            _hung("edges by the head that each passes last, in units of what it leads to:", indent=2)
        for line in edges:
            _hung(f"  {line}")
    if (more := len(roots) - _ROOTS_SHOWN) > 0:
        have = agreeing(more, "is", "are")
        _hung(f"{counted(more, 'less likely root')} {have} not printed: circuit.html and graph.json have them.")
    if sentences:
        OUT.print("\nThe latents on these paths, in words:")
        for name, said in sentences.items():
            _with_sentence(f"  {name}", said, indent=4)
    if found.grouped:
        _show_groups(graph)
    if found.overlap is not None:
        _show_parts(found.overlap, found)
    listed = [*sentences.values(), *(map(said_of, graph.nodes) if found.grouped or found.parts else ())]
    if brackets := brackets_told(listed, graph.about):
        OUT.print()
        _hung(brackets, indent=0, style="dim")


def _root_told(graph: "Graph", i: int, probability: float | None, simulated: bool) -> str:
    """What is explained, its value, and how much of it the graph has."""
    from plainspoken.circuits.beside import logit_told
    from plainspoken.circuits.lines import DIFFERENCE, signed

    node, explained = graph.nodes[i], float(graph.explained[i])
    form = logit_told(node, graph.about, difference=bool(DIFFERENCE.fullmatch(node.label)))
    likely = "" if probability is None else f" (probability {probability:.2g})"
    share = (
        f"{explained:.0%} of what enters it is explained (comes by the graph's edges, errors aside)"
        if math.isfinite(explained)
        else "nothing enters it"
    )
    return (
        f"{_named(node, graph.tokens)}{likely} = {signed(node.value or 0.0)}{f' ({form})' if form else ''}: "
        f"{'with what the sentences say of latents, ' if simulated else ''}{share}; "
        f"own bias {signed(float(graph.offset[i]))}; pruned away {signed(float(graph.rest[i]))}"
    )


def _show_parts(overlap: float, found: "Traced") -> None:
    """How much true and simulated circuit have in common, and the latents at which they part most."""
    from plainspoken.circuits.beside import said_of

    control, draws = "", found.shuffled_draws
    if found.shuffled is not None:
        spread = f"mean of {counted(len(draws), 'draw')}, {min(draws):.0%} to {max(draws):.0%}"
        control = f"; with the sentences shuffled among latents, {found.shuffled:.0%} ({spread})"
    OUT.print(
        f"\nTrue and simulated circuit have {overlap:.0%} of their latents' influence in common{control}.",
        highlight=False,
    )
    if found.parts:
        first = "" if len(found.parts) <= _PARTS_SHOWN else f", the first {_PARTS_SHOWN} of {len(found.parts):,}"
        OUT.print(
            f"Where they part most{first}: activation z, true → simulated, and share of influence, likewise:",
            highlight=False,
        )
    for part in found.parts[:_PARTS_SHOWN]:
        _with_sentence(f"  {_part_told(part)}", said_of(part.node))


def _part_told(part: "Parting") -> str:
    from plainspoken.circuits.lines import node_words

    true, simulated = (f"{z:.3g}".replace("-", "−") for z in (part.true, part.simulated))
    shares = f"{_share(part.true_share)} → {_share(part.simulated_share)}"
    return f"{node_words(replace(part.node, text=None))}: z {true} → {simulated}, influence {shares}"


def _show_groups(graph: "Graph") -> None:
    """The supernodes of most influence, each with its tokens."""
    from plainspoken.circuits.beside import Said, said_of

    if not graph.supernodes:
        OUT.print("\nNo latent of the graph stands at several tokens, so that there is none to group.")
        return
    OUT.print(f"\n{counted(len(graph.supernodes), 'latent')} at several tokens, each a supernode:", highlight=False)
    share = {name: float(sum(graph.influence[i] for i in members)) for name, members in graph.supernodes}
    for name, members in sorted(graph.supernodes, key=lambda each: -share[each[0]])[:_PARTS_SHOWN]:
        nodes = [graph.nodes[i] for i in members]
        said = next((said_of(node) for node in nodes if node.text), Said())
        places = ", ".join(f"@{node.position}" for node in sorted(nodes, key=lambda node: node.position or 0))
        _with_sentence(f"  {name} at {places}: influence {share[name]:.1%}", said)


def _named(node: "Node", tokens: tuple[str, ...]) -> str:
    from plainspoken.circuits.lines import node_words, quoted

    logit = node_words(replace(node, position=None)) if node.kind == "logit" else ""
    what = {"logit": logit, "direction": node.label}.get(node.kind, f"latent {node.layer}/{node.index}")
    place = node.position if node.position is not None else -1
    where = "at" if node.kind == "latent" else "after"
    return f"{what} {where} {quoted(tokens[place])} @{place}"


def _hung(text: str, indent: int = 6, style: str | None = None, piece: str = WORD_OR_TOKEN) -> None:
    for line in hanging(text, OUT.width, indent, piece):
        OUT.print(line, markup=False, highlight=False, soft_wrap=True, emoji=False, style=style)


def _with_sentence(start: str, said: "Said", indent: int = 6) -> None:
    from plainspoken.circuits.lines import quoted

    text = quoted(said.text, WORDS_SHOWN) if said.text else "(no sentence)"
    _hung(f"{start}  {text}{said.brackets}", indent, piece=WORD)


def _share(share: float | None) -> str:
    return "none: pruned" if share is None else f"{share:.1%}"
