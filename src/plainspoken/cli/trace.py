"""The verb that traces a latent or a logit back to the words."""

from pathlib import Path
from typing import Annotated

import typer

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.circuit_shown import show_traced
from plainspoken.cli.effects import show_effects
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.show import OUT, progress_on_terminal
from plainspoken.cli.which import run_folder

_Simulated = Annotated[
    bool,
    typer.Option(
        "--simulated", help="With what the sentences say in the place of the true activations, and where the two part."
    ),
]
_Group = Annotated[
    bool,
    typer.Option("--group", help="A latent at several tokens is one supernode, in the files and in a second drawing."),
]
_ByHead = Annotated[
    int,
    typer.Option(
        min=0,
        help="Of so many strongest edges into each target and each latent on its paths: the heads they come by; all of "
        "them in by_head.json.",
    ),
]
_Effects = Annotated[
    int,
    typer.Option(
        min=0,
        help="Ablate so many latents of most influence, and as many others as a control: what edges predict, what "
        "happens.",
    ),
]
_Prompt = Annotated[str, typer.Option(help="The text at which something is explained.", show_default=False)]
_Target = Annotated[
    str,
    typer.Option(
        help='What is explained: latent:LAYER/NUMBER@PLACE, logit:" token", logit-diff:" one"," other"; or '
        "logits, the likeliest next tokens. A token may be a special one's name, or its number: logit:#123.",
    ),
]
_Heads = Annotated[
    bool,
    typer.Option(
        "--heads",
        help="Print paths with the attention heads that they pass, found by a greedy search, and write the graph that "
        "they merge to: paths-0.json and on, one a target.",
    ),
]
_Silent = Annotated[bool, typer.Option("--silent", help="Explain a latent where it does not fire: what holds it down.")]
_Paths = Annotated[int, typer.Option(min=0, help="Paths to print, strongest first.")]
_Nodes = Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of the influence that the kept nodes have.")]
_Edges = Annotated[float, typer.Option(min=0.01, max=1.0, help="The same of the edges between them.")]
_Out = Annotated[
    Path | None,
    typer.Option(help="Folder for graph and drawing; default: RUN/trace/ and a name made of the prompt."),
]


def trace(
    run: o.OldRun = None,
    prompt: _Prompt = "",
    target: _Target = "logits",
    simulated: _Simulated = False,
    heads: _Heads = False,
    silent: _Silent = False,
    paths: _Paths = 10,
    nodes: _Nodes = 0.8,
    edges: _Edges = 0.98,
    group: _Group = False,
    by_head: _ByHead = 0,
    effects: _Effects = 0,
    out: _Out = None,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Trace a latent or a logit back to the words: which earlier latents and tokens made it what it is.

    Attention patterns and norm factors are held as they are at the prompt, and each FFN with a coder is the
    coder's latents and what it misses (error). What is left is linear, so that contributions add up: to a
    logit, or to a latent before its activation.

    [bold]Places[/] are counted in tokens from 0, the one before the text (BOS) included, or from the end: @-1,
    the last, where none is said. A logit at a place is of the token that follows it, told less its mean over the
    vocabulary, and before the soft cap where the model has one.

    [bold]What is printed[/] are paths: what flows along each into the target, and each latent's sentence with how well
    it foretells the latent. What is written is the graph (graph.json, docs/circuits-format.md), the same for public
    viewers (viewer.json), and circuit.html: a drawing, token by layer, that opens in any browser.

    Layers whose FFN has no coder stay whole, as error; a run with a coder in every layer explains most:

    plainspoken run --site 'gpt_neox.layers.*.mlp' --out runs/all

    plainspoken trace runs/all --prompt "def greet(self, name" --target 'logit:")"'

    plainspoken trace runs/all --prompt $'class A:\\n    def f(' --target 'logit-diff:"self","x"'

    plainspoken trace runs/all --prompt "for i in range(10" --simulated

    Then a latent of those that were printed, such as L0/117@5:

    plainspoken trace runs/all --prompt "for i in range(10" --target L0/117@5

    Which heads carry it, and each latent once: --by-head 3 --group

    Whether to believe it: --effects 20 ablates latents and tells what edges predicted (docs/interventions.md):

    plainspoken trace runs/all --prompt "def greet(self, name" --target 'logit:")"' --effects 20
    """
    folder = run_folder(run, 'trace {} --prompt "def f(" --target \'logit:")"\'')
    with reporting_errors(folder, "trace"), progress_on_terminal(quiet) as progress:
        found = pipeline.trace(
            folder, prompt, target, node_share=nodes, edge_share=edges, paths=paths, simulated=simulated, heads=heads,
            silent=silent, effects=effects, group=group, by_head=by_head, out=out, device=device, progress=progress,
        )  # fmt: skip
    if quiet:
        return
    show_traced(found)
    if effects:
        show_effects(found.effects)
    for name, path in found.files.items():
        OUT.print(f"{name}: {path}", highlight=False, soft_wrap=True)
