"""The verb that finds what makes a behaviour, and tests it on prompts that it was not found on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.circuit_shown import WORDS_SHOWN
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.hanging import WORD, hanging
from plainspoken.cli.layout import Cell, Row
from plainspoken.cli.show import OUT, UNBOUNDED, progress_on_terminal, show_error, show_rows
from plainspoken.cli.which import run_folder
from plainspoken.language.counted import counted

_Prompts = Annotated[
    Path | None,
    typer.Argument(
        metavar="PROMPTS",
        help='A JSONL file, one {"prompt": "...", "wanted": "...", "other": "..."} a line (needed).',
        show_default=False,
    ),
]
_Top = Annotated[int, typer.Option(min=1, help="Latents of the circuit that are ablated: the strongest.")]
_Draws = Annotated[int, typer.Option(min=1, help="Draws of as many random latents, the control.")]
_Curves = Annotated[int, typer.Option(min=1, help="Random orders beside the curves of latents and neurons kept.")]
_Seed = Annotated[int, typer.Option(min=0, help="Of the halves, the draws and the intervals.")]
_Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder for record, page and picture; default: RUN/behaviour/ and the file's name.", show_default=False
    ),
]
_ROWS = (
    ("original", "the model as it is"),
    ("change", "change without them"),
    ("change_random", "… without random ones"),
    ("over_random", "the first less the second"),
)


def behaviour(
    run: o.OldRun = None,
    prompts: _Prompts = None,
    top: _Top = 10,
    draws: _Draws = 20,
    curves: _Curves = 10,
    seed: _Seed = 0,
    out: _Out = None,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Find the latents that make a behaviour on some prompts, and ablate them on others, beside random ones.

    A behaviour is a difference of two logits after each prompt: of the token that is wanted, less another. A line of
    the file may have a contrast too, the same prompt without what ought to matter; then all lines have one:

    {"prompt": "class A:\\n    def f(", "wanted": "self", "other": "x", "contrast": "def f("}

    Half of the prompts, drawn by the seed, find the circuit: the latents whose contributions through the frozen model
    are largest. All figures are of the other half: what ablating them does in the running model, beside random latents
    of the same layers that fire as often; and how much the strongest latents recover alone, all others at their mean,
    beside as many neurons.

    plainspoken behaviour runs/all prompts.jsonl

    plainspoken behaviour runs/all prompts.jsonl --top 5 --draws 50
    """
    folder = run_folder(run, "behaviour {} asked.jsonl")
    if prompts is None:
        show_error(
            'which prompts? Name a JSONL file of lines {"prompt": "...", "wanted": "...", "other": "..."}, e.g. '
            f"plainspoken behaviour {folder} asked.jsonl"
        )
        raise typer.Exit(2)
    with reporting_errors(folder, "behaviour"), progress_on_terminal(quiet) as progress:
        found = pipeline.behaviour(
            folder, prompts, top=top, draws=draws, curves=curves, seed=seed, out=out, device=device, progress=progress
        )
    if quiet:
        return
    _show_ablation(found.record)
    _show_latents(found.record)
    _show_kept(found.record["kept"])
    for name, path in found.files.items():
        OUT.print(f"{name}: {path}", highlight=False, soft_wrap=True)


def _show_ablation(record: Mapping[str, Any]) -> None:
    """The difference, and its change without the circuit's latents and without random ones."""
    from plainspoken.report.numbers import fixed

    ablation, contrast, finding = record["ablation"], record["contrast"], record["finding"]
    OUT.print(
        f"Logit difference, mean over {counted(ablation['prompts'], 'prompt')}; the "
        f"{counted(ablation['latents'], 'strongest latent')} of {finding['firing_latents']:,} were found on "
        f"{counted(finding['prompts'], 'other', 'others')}:",
        highlight=False,
    )
    columns = [("after the", "prompt", ablation)]
    if contrast is not None:
        columns += [("after its", "contrast", contrast), ("the first", "less that", record["apart"])]
    head = Row(("", ""), [(first, second) for first, second, _ in columns])
    show_rows(
        head,
        [Row((name, ""), [_cell(column, field) for *_, column in columns]) for field, name in _ROWS],
        abreast=False,
    )
    bounds = [ablation[f"change{end}"] for end in ("_low", "_high")]
    if all(each is not None and each * ablation["original"] > 0 for each in bounds):
        OUT.print("Without them there is more of it, not less: these latents, the largest by size, hold it down.")
    furthest = max(ablation["draws"], key=abs)
    OUT.print(
        f"The furthest that any of {counted(len(ablation['draws']), 'draw')} of random latents goes: "
        f"{fixed(furthest, 2, True)}",
        highlight=False,
    )


def _show_latents(record: Mapping[str, Any]) -> None:
    from plainspoken.circuits.lines import quoted
    from plainspoken.report.numbers import fixed

    OUT.print("\nThe latents, with their mean contribution in the frozen model, in words:", highlight=False)
    for each in record["latents"]:
        said = quoted(each["text"], WORDS_SHOWN) if each["text"] else "(no sentence)"
        told = f"  L{each['latent']}  {fixed(each['contribution'], 2, True)}, fires in {each['fires_in']:.0%}  {said}"
        for line in hanging(told, OUT.width, 4, WORD):
            OUT.print(line, markup=False, highlight=False, soft_wrap=True, emoji=False)


def _show_kept(curve: Mapping[str, Any]) -> None:
    """Of the gap between all FFNs at their mean and the model, what so many units recover alone."""
    from plainspoken.evaluate.kept import ENDING, kept_points
    from plainspoken.report.numbers import fixed

    OUT.print("\nRecovered by so many alone, all others at their mean:", highlight=False)
    if curve["recovered_coders"] is None:
        floor, whole = (fixed(curve[name], 2, True) for name in ("mean_ablated", "original"))
        OUT.print(
            f"undefined, since with every FFN at its mean the difference is {floor}, no less than the model's {whole}: "
            "there is no gap to recover. The differences themselves are on the page.",
            highlight=False,
        )
        return
    head = Row(("kept", ""), [("latents", ""), ("neurons", ""), ("random", "latents"), ("random", "neurons")])
    rows = [Row((f"{number:,}", ""), [_share(point) for point in points]) for number, points in kept_points(curve)]
    show_rows(head, rows, abreast=False)
    OUT.print(ENDING, highlight=False)


def _cell(record: Mapping[str, Any], name: str) -> Cell:
    """A figure over its interval."""
    from plainspoken.report.numbers import fixed

    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "undefined", ""
    bounds = UNBOUNDED if low is None else f"[{fixed(low, 2, True)}, {fixed(high, 2, True)}]"
    return fixed(value, 2, True), bounds


def _share(point: Mapping[str, Any] | None) -> Cell:
    from plainspoken.report.numbers import fixed, percent

    if point is None:
        return "", ""
    value, low, high = (point[f"recovered{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "undefined", ""
    bounds = UNBOUNDED if low is None else f"[{fixed(100 * low, 0)}, {fixed(100 * high, 0)}]"
    return percent(value), bounds
