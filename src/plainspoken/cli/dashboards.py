"""The verb that shows every latent of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.show import OUT, progress_on_terminal
from plainspoken.cli.which import run_folder
from plainspoken.language.counted import counted

if TYPE_CHECKING:
    from plainspoken.pipeline.dashboard import Made
else:  # what makes dashboards brings torch
    Made = Any
_Site = Annotated[str | None, typer.Option(help="One of the run's sites; default: all.", show_default=False)]
_Bands = Annotated[int, typer.Option(min=1, help="Bands of activation from which examples are shown.")]
_PerBand = Annotated[int, typer.Option(min=1, help="Examples of each band, and of the strongest.")]
_Window = Annotated[int, typer.Option(min=1, help="Tokens of an example.")]
_Bins = Annotated[int, typer.Option(min=1, help="Bars of a histogram.")]


def dashboards(
    run: o.OldRun = None,
    site: _Site = None,
    bands: _Bands = 5,
    per_band: _PerBand = 3,
    window: _Window = 32,
    bins: _Bins = 20,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Show every latent of a site: when it fires, what it does, what it is said to be.

    Of each latent, on one page with search and sorting, and in one file:

    strongest     text where it fires most
    examples      text drawn at random from each band of its activations, the
                  highest first, with the activation at every token
    activations   how often it fires, and a histogram of how strongly
    promotes      the tokens whose logits it raises most, by its weights alone
    suppresses    those that it lowers most
    excited by    the tokens whose embeddings its encoder answers most
    sources       latents of the run's other sites before it, by the weights
                  between; negative ones inhibit
    targets       those after it
    sentence      its explanation and how well that predicts it, where the run
                  has been explained and scored

    Needs the firing table that encode makes; takes seconds for a thousand
    latents. Sentences and scores are shown as they are now: make it again after
    explaining, editing or scoring.

    plainspoken encode runs/pocket && plainspoken dashboards runs/pocket

    plainspoken dashboards runs/all --site model.layers.2.mlp --bands 10

    The page opens at a latent, a search or an order by its address:
    dashboards.html#latent=12, dashboards.html#search=ball&sort=rate
    """
    folder = run_folder(run, "dashboards {}")
    with reporting_errors(folder, "dashboards"), progress_on_terminal(quiet) as progress:
        made = pipeline.dashboards(
            folder, site=site, bands=bands, per_band=per_band, window=window, bins=bins, device=device,
            progress=progress,
        )  # fmt: skip
    for each in made if not quiet else ():
        _show(folder, each)


def _show(folder: Path, made: Made) -> None:
    said = f"{made.explained:,} with a sentence" if made.explained else "none explained yet"
    OUT.print(f"[bold]{escape(made.site)}[/]: {counted(made.latents, 'latent')}, {said}", highlight=False)
    for name, path in (("page", made.page), ("data", made.file)):
        OUT.print(f"{name}: {path}", soft_wrap=True, highlight=False, markup=False)
    if not made.explained:
        OUT.print(f"put them into words with: plainspoken explain {folder}", style="dim", highlight=False, markup=False)
