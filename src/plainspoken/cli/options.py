"""Options that several verbs share, and how they become settings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from plainspoken.config import Config, load_config
from plainspoken.pipeline.stored import stored_config

_HOW = "How it is run"
_WHAT = "What is rewritten, and on which text (what is left out: as the preset has it)"
FRONTIER = (15, 30, 60, 120, 240)

Run = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="A run folder made before: go on with its settings.", show_default=False),
]
OldRun = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN",
        help="A run folder, as `plainspoken run` makes it (needed), e.g. runs/pocket.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Settings to start from: pocket (default), own (default with --lm), paper, paper-small (the paper's "
        "protocol offline).",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="A TOML file of settings, over the preset.", rich_help_panel=_WHAT),
]
Lm = Annotated[
    str | None,
    typer.Option(help="Language model: pocket (bundled), a folder, or a Hugging Face name.", rich_help_panel=_WHAT),
]
Corpus = Annotated[
    str | None,
    typer.Option(
        help="Text: stdlib, a file or folder, .jsonl, .parquet, tokens (.safetensors), hf:NAME, or self:3072x256 "
        "(the model's own samples: 3072 rows of 256 tokens).",
        rich_help_panel=_WHAT,
    ),
]
EvalCorpus = Annotated[
    str | None,
    typer.Option(
        help="Other text to evaluate on, of any kind that --corpus takes; else a tenth of --corpus.",
        rich_help_panel=_WHAT,
    ),
]
SiteOption = Annotated[
    str | None,
    typer.Option(
        help="Module to rewrite: a path, a glob ('model.layers.*.mlp'), or several with commas. Several are rewritten "
        "one by one and together. A name that is not there is answered with the nearest.",
        rich_help_panel=_WHAT,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, e.g. coder.k=64; may be repeated. `plainspoken settings` lists them.",
        rich_help_panel=_WHAT,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Run folder; default: runs/PRESET.", show_default=False, rich_help_panel=_HOW),
]
CompareOut = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the comparison; default: runs/compare-PRESET.", show_default=False, rich_help_panel=_HOW
    ),
]
Force = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STAGE",
        help="Redo this stage and all that depends on it; may be repeated.",
        rich_help_panel=_HOW,
    ),
]
Frontier = Annotated[
    bool,
    typer.Option(
        "--frontier",
        help=f"Also measure loss recovered at budgets of words: {', '.join(map(str, FRONTIER))}.",
        rich_help_panel=_HOW,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Tell what would be asked of language models (requests, tokens, cost), send nothing, and stop. What asks "
        "none (corpus, train, encode) is done first.",
        rich_help_panel=_HOW,
    ),
]
ShowPrompts = Annotated[
    bool,
    typer.Option("--show-prompts", help="With --dry-run: one prompt of each stage as well.", rich_help_panel=_HOW),
]
Device = Annotated[
    str | None,
    typer.Option(help="auto (a GPU where there is one), cpu, cuda, cuda:1.", rich_help_panel=_HOW),
]
Dtype = Annotated[
    str | None,
    typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=_HOW),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print warnings and errors only.", rich_help_panel=_HOW),
]


Kinds = Annotated[
    str | None,
    typer.Option(
        metavar="KINDS",
        help="Which to train, with commas: transcoder, skip-transcoder, sae (default: all three).",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
K = Annotated[
    str | None,
    typer.Option(
        "--k",
        metavar="NUMBERS",
        help="Latents active at a token, with commas: one coder of each kind for each (default: 4,8,16,32,64).",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]


def config_and_folder(
    run: Path | None,
    out: Path | None,
    preset: str | None,
    config: Path | None,
    overrides: list[str] | None,
    **values: Any,
) -> tuple[Config, Path]:
    """The settings that the options ask for, and the run folder they belong to."""
    if run is not None:
        if out is not None or preset is not None or config is not None:
            raise typer.BadParameter("a run folder has its settings: --out, --preset and --config do not go with it")
        return stored_config(run, overrides or (), **values), run
    settings = load_config(preset, config, overrides or (), **values)
    return settings, out or Path("runs") / settings.preset
