"""The verb that shows latents of two coders without saying of which, and asks what they are worth."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plainspoken.cli import options as o
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.layout import Row
from plainspoken.cli.show import OUT, progress_on_terminal, show_rows
from plainspoken.cli.which import run_folder
from plainspoken.errors import UsageError
from plainspoken.language.counted import counted

if TYPE_CHECKING:  # they bring torch
    from plainspoken.evaluate.survey import Share, SurveyPlan, SurveyResult
    from plainspoken.pipeline.survey import Survey
    from plainspoken.pipeline.survey_exhibit import Exhibit

_WORDS = {"y": "yes", "yes": "yes", "m": "maybe", "maybe": "maybe", "n": "no", "no": "no"}
_QUIT = ("q", "quit")
_Other = Annotated[
    Path | None,
    typer.Argument(metavar="RUN_B", help="Another run, for its coder; else two sites of one run.", show_default=False),
]
_Site = Annotated[
    list[str] | None,
    typer.Option(help="A site of the runs; twice: one for each coder. Default: a run's only one.", show_default=False),
]
_Latents = Annotated[int, typer.Option(min=1, help="Latents of each coder, drawn from those that fire.")]
_Seed = Annotated[int, typer.Option(min=0, help="Of the latents, their order and their examples.")]
_Bands = Annotated[int, typer.Option(min=1, help="Bands of activation from which examples are shown.")]
_PerBand = Annotated[int, typer.Option(min=1, help="Examples of each band, and of the strongest.")]
_Window = Annotated[int, typer.Option(min=1, help="Tokens of an example.")]
_Out = Annotated[Path | None, typer.Option(help="Folder of plan, answers and results (needed).", show_default=False)]
_Answers = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Take the answers from a file (-: standard input), a line each: NUMBER VERDICT CONTEXT-FREE NOTE.",
        show_default=False,
    ),
]


def survey(
    run: o.OldRun = None,
    other: _Other = None,
    site: _Site = None,
    latents: _Latents = 50,
    seed: _Seed = 0,
    bands: _Bands = 4,
    per_band: _PerBand = 3,
    window: _Window = 24,
    out: _Out = None,
    answers: _Answers = None,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Judge random latents of two coders blind: are they interpretable, and which coder's are so more often?

    The latents of both stand shuffled, without number, coder or sentence: only texts, strongest first, and
    then from each band of activation. Tokens at which the latent fires stand in ⟦ ⟧, with how strongly
    behind them (9: as its strongest). Who looks into plan.json is no longer blind.

    [bold]Asked of each[/]: is it interpretable (yes, maybe, no), is it context-free (does the token alone tell
    whether it fires: yes, no), and a note, if you like. q stops: what was answered is kept, at once, and the
    same command goes on. What each coder got is told when all are judged (docs/studies.md).

    plainspoken survey runs/transcoder runs/sae --latents 50 --seed 1 --out surveys/first

    plainspoken survey runs/all --site gpt_neox.layers.1.mlp --site gpt_neox.layers.3.mlp --out surveys/layers

    plainspoken survey runs/transcoder runs/sae --latents 50 --seed 1 --out surveys/judged --answers judged.txt
    """
    first = run_folder(run, "survey {} RUN_B --out surveys/first")
    with reporting_errors(None), ExitStack() as stack:
        from plainspoken.pipeline.survey import SurveySettings, opened_survey

        if out is None:
            raise UsageError("name a folder for the survey's plan and answers, e.g. --out surveys/first")
        settings = SurveySettings(latents, seed, bands, per_band, window)
        runs = [first] if other is None else [first, other]
        with progress_on_terminal(quiet) as progress:  # no bars where people type
            opened = opened_survey(runs, site or [], out, settings, device=device, progress=progress)
            found = stack.enter_context(opened)
        finished = _asked(found) if answers is None else _read(found, answers, quiet)
        result = found.finish() if finished else None
    plan = found.plan
    if result is None:
        OUT.print(
            f"{len(found.answers)} of {len(plan.items)} judged and kept; the same command goes on", highlight=False
        )
        return
    _show_result(plan, result)
    OUT.print(f"results: {out / 'results.json'}", soft_wrap=True, highlight=False)


def _asked(found: "Survey") -> bool:
    """Ask on the terminal; whether all are judged now."""
    for item in found.remaining:
        _show(found.exhibit(item), len(found.plan.items))
        verdict = _word("interpretable? [y]es, [m]aybe, [n]o ([q]uit) ", ("yes", "maybe", "no"))
        free = None if verdict is None else _word("context-free? [y]es, [n]o ([q]uit) ", ("yes", "no"))
        if verdict is None or free is None:
            return False
        note = _line("note (Enter: none; q: none, and stop) ")
        stop = note is None or note.lower() in _QUIT
        found.answer(item, verdict, free == "yes", "" if stop else note or "")
        if stop:
            return not found.remaining
    return True


def _word(question: str, allowed: tuple[str, ...]) -> str | None:
    while True:
        said = _line(question)
        if said is None or said.lower() in _QUIT:
            return None
        if (word := _WORDS.get(said.lower())) in allowed:
            return word
        OUT.print(f"please answer {', '.join(allowed)}, or q", highlight=False)


def _line(question: str) -> str | None:
    """What is typed; None at the end of it."""
    OUT.print(question, end="", markup=False, highlight=False, soft_wrap=True)
    said = sys.stdin.readline()
    return said.strip() if said else None


def _read(found: "Survey", name: str, quiet: bool) -> bool:
    """Take answers from a file; whether all are judged now."""
    with _opened(name) as lines:
        shown = -1
        remaining = found.remaining
        if remaining:
            shown = remaining[0]
            if not quiet:
                _show(found.exhibit(shown), len(found.plan.items))
        for number, line in enumerate(lines, 1):
            if not (words := line.split(maxsplit=3)):
                continue
            said = [_WORDS.get(word.lower()) for word in words[1:3]]
            if len(said) < 2 or not words[0].isdecimal() or said[0] is None or said[1] not in ("yes", "no"):
                raise UsageError(
                    f"{name}, line {number}: no answer; write NUMBER yes|maybe|no yes|no NOTE, e.g. 3 maybe no verbs?"
                )
            found.answer(int(words[0]) - 1, said[0], said[1] == "yes", words[3].strip() if len(words) > 3 else "")
            remaining = found.remaining
            if remaining and remaining[0] != shown:
                shown = remaining[0]
                if not quiet:
                    _show(found.exhibit(shown), len(found.plan.items))
    return not found.remaining


@contextmanager
def _opened(name: str) -> Iterator[Iterator[str]]:
    """The lines of a file of answers, or of standard input, which stays open."""
    if name == "-":
        yield iter(sys.stdin.readline, "")
        return
    if not Path(name).is_file():
        raise UsageError(f"{name} is no file of answers: name one with --answers, or - for standard input")
    with open(name, encoding="utf-8", errors="replace") as file:
        yield iter(file.readline, "")


def _show(shown: "Exhibit", of: int) -> None:
    OUT.print(f"\nlatent {shown.item + 1} of {of}", style="bold", highlight=False)
    for title, lines in shown.groups:
        OUT.print(title, style="dim", highlight=False)
        for line in lines:
            OUT.print(f"  {line}", markup=False, highlight=False, soft_wrap=True, emoji=False)


def _show_result(plan: "SurveyPlan", found: "SurveyResult") -> None:
    names = ("yes", "maybe", "no")
    of = f"{counted(plan.latents, 'latent')} of each coder, 95 % intervals"
    OUT.print(f"\n[bold]interpretable?[/] {of}", highlight=False)
    rows = [
        Row((coder.run, coder.site), [*(_cell(verdicts[name]) for name in names), _cell(free)])
        for coder, verdicts, free in zip(plan.coders, found.verdicts, found.context_free, strict=True)
    ]
    show_rows(Row(("run", "site"), [*((name, "") for name in names), ("context-free", "")]), rows, abreast=False)
    OUT.print(
        f"share of yes, first less second: {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]",
        markup=False,
        highlight=False,
    )


def _cell(share: "Share") -> tuple[str, str]:
    return f"{share.count} ({share.value:.0%})", f"{share.low:.0%}…{share.high:.0%}"
