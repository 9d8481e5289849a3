"""The verb that traces a latent or a logit back to the words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.effects import show_effects
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.show import OUT, progress_on_terminal
from plainspoken.cli.which import run_folder

if TYPE_CHECKING:  # they bring torch
    from plainspoken.circuits.graph import Node
    from plainspoken.pipeline.tracing import Traced

_PARTS_SHOWN, _WORDS_SHOWN = 8, 80


def trace(
    run: o.OldRun = None,
    prompt: Annotated[str, typer.Option(help="The text at which something is explained.", show_default=False)] = "",
    target: Annotated[
        str,
        typer.Option(
            help='What is explained: latent:LAYER/NUMBER@PLACE, logit:" token", logit-diff:" one"," other"; or '
            "logits, the likeliest next tokens.",
        ),
    ] = "logits",
    simulated: Annotated[
        bool,
        typer.Option(
            "--simulated",
            help="With what the sentences say in the place of the true activations, and where the two part.",
        ),
    ] = False,
    heads: Annotated[
        bool,
        typer.Option("--heads", help="Print paths with the attention heads that they pass, found by a greedy search."),
    ] = False,
    silent: Annotated[
        bool, typer.Option("--silent", help="Explain a latent where it does not fire: what holds it down.")
    ] = False,
    paths: Annotated[int, typer.Option(min=0, help="Paths to print, strongest first.")] = 10,
    nodes: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the influence that the kept nodes have.")
    ] = 0.8,
    edges: Annotated[float, typer.Option(min=0.01, max=1.0, help="The same of the edges between them.")] = 0.98,
    effects: Annotated[
        int,
        typer.Option(
            min=0,
            help="Ablate so many latents of most influence, and as many others as a control: what edges predict, what "
            "happens.",
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for graph and drawing; default: RUN/trace/ and a name made of the prompt."),
    ] = None,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Trace a latent or a logit back to the words: which earlier latents and tokens made it what it is.

    Attention patterns and norm factors are held as they are at the prompt, and each FFN with a coder is the
    coder's latents and what it misses (error). What is left is linear, so that contributions add up: to a
    logit, or to a latent before its activation.

    [bold]Places[/] are counted in tokens from 0, the one before the text (BOS) included, or from the end: @-1,
    the last, where none is said. A logit at a place is of the token that follows it.

    [bold]What is printed[/] are paths: what flows along each into the target, and each latent's sentence. What is
    written is the graph (graph.json, docs/circuits-format.md), the same for public viewers (viewer.json), and
    circuit.html: a drawing, token by layer, that opens in any browser.

    Layers whose FFN has no coder stay whole, as error; a run with a coder in every layer explains most:

    plainspoken run --site 'gpt_neox.layers.*.mlp' --out runs/all

    plainspoken trace runs/all --prompt "def greet(self, name" --target 'logit:")"'

    plainspoken trace runs/all --prompt "class A:\n    def f(" --target 'logit-diff:"self","x"'

    plainspoken trace runs/all --prompt "for i in range(10" --target latent:2/17@-1 --simulated

    Whether to believe it: --effects 20 ablates latents and tells what edges predicted (docs/interventions.md):

    plainspoken trace runs/all --prompt "def greet(self, name" --target 'logit:")"' --effects 20
    """
    folder = run_folder(run, 'trace {} --prompt "def f(" --target \'logit:")"\'')
    with reporting_errors(folder, "trace"), progress_on_terminal(quiet) as progress:
        found = pipeline.trace(
            folder, prompt, target, node_share=nodes, edge_share=edges, paths=paths, simulated=simulated, heads=heads,
            silent=silent, effects=effects, out=out, device=device, progress=progress,
        )  # fmt: skip
    if quiet:
        return
    _show(found)
    if effects:
        show_effects(found.effects)
    for name, path in found.files.items():
        OUT.print(f"{name}: {path}", highlight=False, soft_wrap=True)


def _show(found: "Traced") -> None:
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
            f"{explained:.0%} of what enters it comes by the graph's edges, "
            f"{graph.offset[i]:+.3g} is its own bias, {graph.rest[i]:+.3g} was pruned",
            highlight=False,
        )
        for line in found.paths[node.id]:
            OUT.print(escape(f"  {line}"), highlight=False, soft_wrap=True)
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
