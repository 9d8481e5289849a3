"""The verb that scores the sentences of a run."""

from typing import Annotated

import typer

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.asked import show_dry_run
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.scorers import show_scorers
from plainspoken.cli.show import progress_on_terminal, show_scores
from plainspoken.cli.which import run_folder
from plainspoken.language.counted import counted

_By = Annotated[
    str | None,
    typer.Option(
        metavar="SCORERS",
        help="Also ask these, with commas: detection, fuzzing, intruder, surprisal, embedding.",
        show_default=False,
    ),
]
_Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting of score or limits, e.g. score.llm.model=NAME; repeatable."
    ),
]
_Site = Annotated[str | None, typer.Option(help="One of the run's sites; default: all.")]
_Sort = Annotated[str, typer.Option(help="Column to sort by, largest first.")]
_Rows = Annotated[int, typer.Option(min=0, help="Rows to show for each site (0: all).")]


def score(
    run: o.OldRun = None,
    by: _By = None,
    overrides: _Overrides = None,
    site: _Site = None,
    sort: _Sort = "correlation",
    rows: _Rows = 20,
    dry_run: o.DryRun = False,
    show_prompts: o.ShowPrompts = False,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Score sentences: how well each predicts its latent, on documents of their own.

    They are a share of the calibrate documents, the tenth of the corpus on which
    no coder was trained and from which no sentence was written. On the others
    levels are turned into activations; the loss is measured on yet others.

    [bold]Columns[/]

    correlation   of the predicted activation with the true one, over all
                  tokens; 1 is perfect
    sensitivity   of the tokens where the latent fires, the share at which
                  the sentence says so
    specificity   of the tokens where it is silent, the share at which the
                  sentence says so
    auprc         average precision of the level as a detector of firing;
                  1 is perfect, chance is the rate
    rate          share of the tokens at which the latent fires
    mass          how far it moves the site's output, in the mean over tokens
    words         length of the sentence, which stands below the numbers
    –             undefined: it never fires there, or the level never changes

    [bold]Scorers[/] (--by)

    They judge texts of 32 tokens by the sentence alone: some in which the
    latent fires, from weakly to strongly, and others in which it does not.

    detection   a language model says in which it fires
    fuzzing     ... whether the right tokens are marked
    intruder    ... which one of five it does not fire in
    surprisal   by how much the sentence lowers a language model's loss
    embedding   how near the sentence is to the text, as vectors

    Each has a column: its balanced accuracy, 0.5 being chance. Below the table
    stand a site's means over 95 % intervals, the simulation's and theirs, beside
    those of a control, where each latent is scored by another's sentence: what
    the control reaches, the sentences are worth nothing below.

    plainspoken score runs/pocket --sort auprc --rows 0

    plainspoken score runs/pocket --by embedding

    plainspoken score runs/pocket --by detection,fuzzing
    --set score.llm.service=openai --set score.llm.model=NAME --set score.latents=100
    """
    folder = run_folder(run, "score {}")
    scorers = [name.strip() for name in by.split(",")] if by else []
    if dry_run or show_prompts:
        with reporting_errors(folder), progress_on_terminal(quiet) as progress:
            dry = pipeline.dry_scores(
                folder, by=scorers, overrides=overrides or (), prompts=show_prompts, device=device, progress=progress
            )
        show_dry_run(dry, show_prompts)
        return
    with reporting_errors(folder), progress_on_terminal(quiet) as progress:
        table = pipeline.scores(
            folder, site=site, sort=sort, by=scorers, overrides=overrides or (), device=device, progress=progress
        )
    for module, every in table.rows.items():
        lines = table.with_sentence(module)
        told = f"{module}: {counted(len(every), 'latent')}"
        if len(lines) < len(every):
            told += f", {len(every) - len(lines):,} of them without a sentence"
        show_scores(told, table.columns, lines[:rows] if rows else lines)
        show_scorers(module, table.scorers[module])
