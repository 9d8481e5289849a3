"""The verb that ablates, scales or sets latents and shows what the model then says."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.layout import Row
from plainspoken.cli.show import OUT, progress_on_terminal, show_rows
from plainspoken.cli.which import run_folder
from plainspoken.language.counted import counted

if TYPE_CHECKING:  # they bring torch
    from plainspoken.pipeline.intervening import Intervened, Touched

_PLACES_SHOWN, _WORDS_SHOWN = 6, 80
_WHAT = "What is done, to which latents (each may be given several times)"
_Prompt = Annotated[str, typer.Option(help="The text at which the model is run.", show_default=False)]
_Ablate = Annotated[
    list[str] | None,
    typer.Option(
        metavar="L/I[@P[:Q]]", help="Latent I of layer L becomes 0.", show_default=False, rich_help_panel=_WHAT
    ),
]
_Scale = Annotated[
    list[str] | None,
    typer.Option(
        metavar="L/I[@P[:Q]]=FACTOR",
        help="It becomes so many times what it is.",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
_SetTo = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="L/I[@P[:Q]]=VALUE",
        help="It becomes this activation, whether it fires or not.",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
_HoldAttention = Annotated[
    bool,
    typer.Option("--hold-attention", help="Attention mixes by the patterns that it has without the interventions."),
]
_Tokens = Annotated[int, typer.Option(min=0, help="Tokens to write as well, without the interventions and with them.")]
_Temperature = Annotated[float, typer.Option(min=0.0, help="0: always the likeliest token.")]
_Seed = Annotated[int, typer.Option(min=0, help="Of the random draw, the same for both texts.")]


def intervene(
    run: o.OldRun = None,
    prompt: _Prompt = "",
    ablate: _Ablate = None,
    scale: _Scale = None,
    set_to: _SetTo = None,
    hold_attention: _HoldAttention = False,
    tokens: _Tokens = 0,
    temperature: _Temperature = 1.0,
    seed: _Seed = 0,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Ablate, scale or set latents at a prompt: what the model says next, and what it writes, with them and without.

    The latent's own part of what its FFN puts out is exchanged, and nothing else: what the coder misses stays,
    and all later layers answer as they do.

    [bold]Places[/] are counted in tokens from 0, the one before the text (BOS) included, or from the prompt's end:
    @-1 is its last. @P:Q are those from P on and before Q; where Q is left out generated ones too. Where no
    place is said it is every token, generated ones included; never the BOS, where no coder is read.

    Of several on one latent at one token, --ablate outdoes --set, and --set outdoes --scale.

    plainspoken intervene runs/all --prompt "def greet(" --ablate 0/422@-1

    plainspoken intervene runs/all --prompt "def greet(" --scale 1/436=3 --set 2/143@-1=4 --tokens 40

    Which latents matter at a prompt: plainspoken trace
    """
    folder = run_folder(run, 'intervene {} --prompt "def f(" --ablate 0/17@-1')
    with reporting_errors(folder, "intervene"), progress_on_terminal(quiet) as progress:
        found = pipeline.intervene(
            folder, prompt, ablate=ablate or (), scale=scale or (), set_to=set_to or (), hold_attention=hold_attention,
            tokens=tokens, temperature=temperature, seed=seed, device=device, progress=progress,
        )  # fmt: skip
    for each in found.touched:
        _show_touched(found, each)
    _show_next(found, hold_attention)
    for title, text in zip(("as the model is", "with the interventions"), found.texts or (), strict=False):
        OUT.print(f"\n[bold]{title}[/]", highlight=False)
        typer.echo(text)  # as it is: the terminal's own printer replaces :emoji: codes and tabs


def _show_touched(found: "Intervened", touched: "Touched") -> None:
    """What is done to a latent, its sentence, and what it was."""
    from plainspoken.circuits.intervention_words import in_words
    from plainspoken.circuits.lines import quoted

    node, spelled = touched.node, found.prompt.spelled
    text = quoted(node.text, _WORDS_SHOWN) if node.text else "(no sentence)"
    done = in_words(touched.intervention, int(found.prompt.begun))
    OUT.print(f"[bold]{node.layer}/{node.index}[/] {escape(f'{done}  {text}')}", highlight=False, soft_wrap=True)
    strongest = sorted(touched.was, key=lambda each: -each[1])
    was = ", ".join(f"{value:.3g} @{at} {quoted(spelled[at])}" for at, value in strongest[:_PLACES_SHOWN])
    more = f" and at {len(strongest) - _PLACES_SHOWN} more" if len(strongest) > _PLACES_SHOWN else ""
    of = f"of {counted(touched.tokens, 'token')} of the prompt it fires at {len(strongest)}"
    idle = "" if strongest or touched.intervention.kind == "set" else ": nothing changes there"
    OUT.print(
        escape(f"    {of}{': it was ' if was else idle}{was}{more}"), highlight=False, soft_wrap=True, style="dim"
    )


def _show_next(found: "Intervened", held: bool) -> None:
    from plainspoken.circuits.lines import quoted

    last = len(found.prompt.tokens) - 1
    OUT.print(
        f"\n[bold]next token[/] after {escape(quoted(found.prompt.spelled[last]))} @{last}, attention "
        f"{'held' if held else 'free'}: KL (before to after) {found.kl:.4g} nats",
        highlight=False,
        soft_wrap=True,
    )
    rows = [
        Row.of(quoted(each.spelled), (f"{each.before:.4f}", f"{each.after:.4f}", f"{each.change:+.4f}"))
        for each in found.next_tokens
    ]
    show_rows(Row.of("", ("before", "after", "change")), rows)
