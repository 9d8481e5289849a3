"""The verbs of a study: what a latent does, found out without looking at where it fires."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plainspoken.circuits.written import parsed_latent
from plainspoken.cli import options as o
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.help_lines import Verbs
from plainspoken.cli.show import OUT, progress_on_terminal

if TYPE_CHECKING:  # they bring torch
    from plainspoken.pipeline.study import Studied
    from plainspoken.pipeline.study_score import Scored

study = Verbs(
    help="""Study one latent blind: guess what it does from weights and circuits, then reveal, and be scored.

    The program hides where it fires (prompts, examples) and its sentence, logs every look, hypothesis and reveal,
    and tells at the end what was known when (docs/studies.md).

    plainspoken study open runs/all 2/143 --restricted --out studies/first

    plainspoken study look studies/first circuit --prompt-number 1

    plainspoken study hypothesis studies/first "Fires at 9 on “(” after “print”."

    plainspoken study reveal studies/first examples

    plainspoken study score studies/first
    """,
)
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The study's folder.", show_default=False)]


@study.command("open")
def open_(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, e.g. runs/all.", show_default=False)],
    latent: Annotated[
        str, typer.Argument(metavar="LAYER/NUMBER", help="The latent that is studied.", show_default=False)
    ],
    restricted: Annotated[
        bool, typer.Option("--restricted", help="Hide as well what layer 0's FFN does at a prompt.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The study's folder; default: RUN/study/latent-LAYER-NUMBER.")
    ] = None,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Open a study of a latent, blind or restricted.

    plainspoken study open runs/all 2/143

    plainspoken study open runs/all 2/143 --restricted --out studies/first
    """
    with reporting_errors(None), progress_on_terminal(quiet) as progress:
        from plainspoken.pipeline.study import open_study

        folder = open_study(run, _latent(latent), restricted=restricted, folder=out, device=device, progress=progress)
    _print([f"opened, {'restricted' if restricted else 'blind'}: {folder}"])
    _print([f"look with: plainspoken study look {folder} promoted"])


@study.command()
def look(
    folder: Folder,
    what: Annotated[
        str,
        typer.Argument(
            metavar="weights|promoted|sources|targets|deembedding|circuit", help="At what.", show_default=False
        ),
    ],
    prompt_number: Annotated[
        int, typer.Option(help="Of a circuit: at which prompt, 1 being where the latent fires most strongly.")
    ] = 1,
    latent: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER/NUMBER", help="Weights of another latent, such as one of the sources.", show_default=False
        ),
    ] = None,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Look at what may be known: weights, and circuits whose tokens are told by their places alone.

    plainspoken study look studies/first promoted

    plainspoken study look studies/first circuit --prompt-number 3

    plainspoken study look studies/first deembedding --latent 1/40
    """
    other = None if latent is None else _latent(latent)
    with reporting_errors(None), progress_on_terminal(quiet) as progress:
        from plainspoken.pipeline import study as work

        with work.opened_study(folder, device=device, progress=progress) as found:
            shown = work.look(found, what, prompt_number, other)
    _show(shown)


@study.command()
def hypothesis(
    folder: Folder,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the latent fires on.", show_default=False)],
    quiet: o.Quiet = False,
) -> None:
    """Write a hypothesis down, with the time and what had been seen by then.

    plainspoken study hypothesis studies/first "Fires at 9 on “(” after “print”."
    """
    with reporting_errors(None), progress_on_terminal(quiet) as progress:
        from plainspoken.pipeline import study as work

        with work.opened_study(folder, progress=progress, run=False) as found:
            shown = work.hypothesis(found, text)
    _show(shown)


@study.command()
def reveal(
    folder: Folder,
    what: Annotated[
        str,
        typer.Argument(metavar="examples|prompts|explanation|everything", help="What.", show_default=False),
    ],
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Show what was hidden; it is logged, and what is written down after it is no longer blind.

    plainspoken study reveal studies/first examples
    """
    with reporting_errors(None), progress_on_terminal(quiet) as progress:
        from plainspoken.pipeline import study as work

        with work.opened_study(folder, device=device, progress=progress) as found:
            shown = work.reveal(found, what)
    _show(shown)


@study.command()
def score(folder: Folder, device: o.Device = None, quiet: o.Quiet = False) -> None:
    """Tell what was known when, and how well each hypothesis foretells the latent.

    plainspoken study score studies/first
    """
    with reporting_errors(None), progress_on_terminal(quiet) as progress:
        from plainspoken.pipeline.study import opened_study
        from plainspoken.pipeline.study_score import SCORE, score_study

        with opened_study(folder, device=device, progress=progress) as found:
            scored = score_study(found)
    _print(scored.timeline)
    _print(["", "on the run's scoring documents, [95 %]:"])
    for each in (*scored.hypotheses, scored.explanation, scored.control):
        _print(_scored_lines(each))
    _print([f"score: {folder / SCORE}"])


def _latent(text: str) -> tuple[int, int]:
    with reporting_errors(None):
        return parsed_latent(text)


def _scored_lines(each: "Scored") -> list[str]:
    lines = [f"{each.what}{'' if each.text is None else f': {each.text}'}"]
    if each.measures is None:
        return [*lines, f"    not measured: {each.lacks}"]
    told = [_figure(each.measures, name) for name in ("correlation", "auprc")]
    return [*lines, f"    {', '.join(told)}"]


def _figure(measures: Mapping[str, float | None], name: str) -> str:
    value, low, high = (measures[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return f"{name} undefined (calibrated, it says the same everywhere)"
    between = "–" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
    return f"{name} {value:.3f} {between}"


def _show(shown: "Studied") -> None:
    _print(shown.lines)
    head = shown.log.head
    OUT.print(f"log: {head.entries} entries, {head.sha256[:12]}", style="dim", highlight=False)


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        OUT.print(line, markup=False, highlight=False, soft_wrap=True, emoji=False)
