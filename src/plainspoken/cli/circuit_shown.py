"""A traced circuit on the terminal: its paths, its edges by head, its supernodes, where simulated and true part."""

from typing import TYPE_CHECKING

from rich.markup import escape

from plainspoken.cli.show import OUT
from plainspoken.language.counted import counted

if TYPE_CHECKING:  # they bring torch
    from plainspoken.circuits.graph import Graph, Node
    from plainspoken.pipeline.tracing import Traced

_PARTS_SHOWN, _WORDS_SHOWN = 8, 80


def show_traced(found: "Traced") -> None:
    from plainspoken.circuits.lines import quoted

    graph = found.graph
    if found.without_coder:
        layers = ", ".join(map(str, found.without_coder))
        OUT.print(f"[dim]No coder at layer {layers}: what its FFN does there is error in the graph.[/]")
    for i in range(graph.about["roots"]):
        node = graph.nodes[i]
        explained = graph.explained[i]
        OUT.print(
            f"[bold]{escape(_named(node, found.prompt.spelled))}[/] = {node.value:+.4g}: "
            f"{explained:.0%} of what enters it comes by the graph's edges, errors aside, "
            f"{graph.offset[i]:+.3g} is its own bias, {graph.rest[i]:+.3g} was pruned",
            highlight=False,
        )
        for line in (*found.paths[node.id], *found.by_head.get(node.id, ())):
            OUT.print(escape(f"  {line}"), highlight=False, soft_wrap=True)
    if found.grouped:
        _show_groups(graph)
    if found.overlap is not None:
        control = "" if found.shuffled is None else f"; with the sentences shuffled among latents, {found.shuffled:.0%}"
        OUT.print(
            f"\nTrue and simulated circuit have {found.overlap:.0%} of their latents' influence in common{control}.",
            highlight=False,
        )
        for part in found.parts[:_PARTS_SHOWN]:
            shares = f"{_share(part.true_share)} → {_share(part.simulated_share)}"
            says = quoted(part.node.text, _WORDS_SHOWN) if part.node.text else "(no sentence)"
            OUT.print(
                escape(f"  {part.node.id}: z {part.true:.3g} → {part.simulated:.3g}, influence {shares}  {says}"),
                highlight=False,
                soft_wrap=True,
            )


def _show_groups(graph: "Graph") -> None:
    """The supernodes of most influence, each with its tokens."""
    from plainspoken.circuits.lines import quoted

    if not graph.supernodes:
        OUT.print("\nNo latent of the graph stands at several tokens, so that there is none to group.")
        return
    OUT.print(f"\n{counted(len(graph.supernodes), 'latent')} at several tokens, each a supernode:", highlight=False)
    share = {name: float(sum(graph.influence[i] for i in members)) for name, members in graph.supernodes}
    for name, members in sorted(graph.supernodes, key=lambda each: -share[each[0]])[:_PARTS_SHOWN]:
        nodes = [graph.nodes[i] for i in members]
        text = next((node.text for node in nodes if node.text), None)
        says = "" if text is None else f"  {quoted(text, _WORDS_SHOWN)}"
        places = ", ".join(f"@{node.position}" for node in sorted(nodes, key=lambda node: node.position or 0))
        OUT.print(escape(f"  {name} at {places}: influence {share[name]:.1%}{says}"), highlight=False, soft_wrap=True)


def _named(node: "Node", tokens: tuple[str, ...]) -> str:
    what = {"logit": f"logit {node.label!r}", "direction": node.label}.get(
        node.kind, f"latent {node.layer}/{node.index}"
    )
    place = node.position if node.position is not None else -1
    return (
        f"{what} after {tokens[place]!r} @{place}" if node.kind != "latent" else f"{what} at {tokens[place]!r} @{place}"
    )


def _share(share: float | None) -> str:
    return "none: pruned" if share is None else f"{share:.1%}"
