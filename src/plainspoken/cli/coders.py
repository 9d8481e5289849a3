"""The verbs whose subject is a coder rather than a run: comparing kinds of them, converting their checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.show import progress_on_terminal, show_comparison, show_converted
from plainspoken.pipeline import launched


def compare_coders(
    run: o.Run = None,
    preset: o.Preset = None,
    config: o.ConfigFile = None,
    lm: o.Lm = None,
    corpus: o.Corpus = None,
    eval_corpus: o.EvalCorpus = None,
    site: o.SiteOption = None,
    kinds: o.Kinds = None,
    k: o.K = None,
    overrides: o.Set = None,
    out: o.CompareOut = None,
    force: o.Force = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    quiet: o.Quiet = False,
) -> None:
    """Compare transcoders, skip transcoders and SAEs: what each costs the model, against how sparse it is.

    Trains a coder of every kind at every k on the same activations of one
    FFN, splices each into the model, and measures loss, FVU and the rest on
    the evaluate part: a table, compare/compare.json and compare/compare.png.
    Coders that are trained are kept; a killed training goes on.

    plainspoken compare-coders

    plainspoken compare-coders --lm ./my-model --corpus books/ --site model.layers.2.mlp --k 8,32 --out runs/compare

    plainspoken compare-coders runs/compare --k 8,16,32   # one more k
    """
    if launched.rank() > 0:
        return  # the first process refuses for all: the first that fails has torchrun stop the others, and all they say
    with reporting_errors(None):
        more = [f"compare.{name}={value}" for name, value in (("kinds", kinds), ("k", k)) if value is not None]
        settings, folder = o.config_and_folder(
            run, out, preset, config, [*(overrides or ()), *more], lm__name=lm, corpus__source=corpus,
            corpus__eval_source=eval_corpus, site=site, lm__device=device, lm__dtype=dtype,
        )  # fmt: skip
        if run is None and out is None:  # not the folder of a run, whose settings these would replace
            folder = folder.with_name(f"compare-{folder.name}")
    with reporting_errors(folder, "compare-coders"), progress_on_terminal(quiet) as progress:
        comparison = pipeline.compare_coders(settings, folder, force=force or (), progress=progress)
    if not quiet:
        show_comparison(comparison)


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A coder's folder or file, or a run folder.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write: new or empty.")],
    to: Annotated[str, typer.Option(help="The format to write.")],
    site: Annotated[str | None, typer.Option(help="Of a run folder: one of its sites; default: all.")] = None,
    quiet: o.Quiet = False,
) -> None:
    """Bring a coder from one project's checkpoint format into another's; its output stays what it was.

    Nothing in a checkpoint is executed, and what a format cannot express is
    refused, not bent.

    [bold]Formats[/]

    FORMATS

    plainspoken convert runs/pocket pocket-sparsify --to sparsify

    plainspoken convert layers.3.mlp mine/layers.3.mlp --to plainspoken

    To use another project's coder in a run, no conversion is needed:

    plainspoken run --lm EleutherAI/pythia-70m --corpus books/
    --site gpt_neox.layers.3.mlp --set coder.load=layers.3.mlp --out runs/theirs
    """
    with reporting_errors(None):
        from plainspoken.pipeline.convert import convert

        for done in convert(source, target, to, site):
            if not quiet:
                show_converted(done)
