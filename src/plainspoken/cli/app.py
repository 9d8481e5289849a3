"""The verbs: those of a run here, those of coders joined to them."""

import shlex
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.asked import show_costs, show_dry_run, show_failures, show_stand_in
from plainspoken.cli.behaviour import behaviour
from plainspoken.cli.coders import compare_coders, convert
from plainspoken.cli.connections import connections
from plainspoken.cli.dashboards import dashboards
from plainspoken.cli.ending import reporting_errors, stop_on_sigterm
from plainspoken.cli.formats_help import FormatsCommand
from plainspoken.cli.help_lines import Verbs
from plainspoken.cli.intervene import intervene
from plainspoken.cli.replace import replace
from plainspoken.cli.score import score
from plainspoken.cli.show import (
    OUT,
    progress_on_terminal,
    show_coders,
    show_conditions,
    show_edits,
    show_error,
)
from plainspoken.cli.study import study
from plainspoken.cli.survey import survey
from plainspoken.cli.trace import trace
from plainspoken.cli.which import run_folder
from plainspoken.config import settings_help
from plainspoken.pipeline import launched
from plainspoken.pipeline.stored import is_run_folder

app = Verbs(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Rewrite parts of a language model in plain English, splice them back, and measure what that costs.

[bold]In this order[/]

1.  plainspoken run
    rewrites one FFN of the bundled model, in minutes: runs/pocket/report.html

2.  plainspoken generate runs/pocket --prompt "def "
    lets the rewritten model speak

3.  plainspoken score runs/pocket
    tells how well each sentence predicts its latent

4.  plainspoken trace runs/pocket --prompt "def f("
    tells which latents and words made the model say what it says next; it sees
    most with a coder at every FFN: run --site 'gpt_neox.layers.*.mlp'

5.  Change sentences in runs/pocket/explain/SITE/explanations.jsonl, then
    plainspoken run runs/pocket
    computes again what depends on them; the report says what they did

[bold]Your own model and text[/]

    plainspoken run --lm EleutherAI/pythia-70m --corpus books/
        --site 'gpt_neox.layers.3.mlp' --out runs/pythia

    plainspoken run --lm ./my-model --corpus self:3072x256
        --site 'model.layers.*.mlp' --out runs/all

[bold]Its stages[/]

`run` goes through all the stages below, in their order; each is a verb too,
which brings a run up to itself and no further. What is done is skipped, and
a run killed at any moment goes on where it was:

    plainspoken run FOLDER""",
)


def _register(stage: str, does: str, title: str) -> None:
    """One verb: bring a run up to a stage. All of them have the same options."""

    def verb(
        run: o.Run = None,
        preset: o.Preset = None,
        config: o.ConfigFile = None,
        lm: o.Lm = None,
        corpus: o.Corpus = None,
        eval_corpus: o.EvalCorpus = None,
        site: o.SiteOption = None,
        overrides: o.Set = None,
        out: o.Out = None,
        force: o.Force = None,
        frontier: o.Frontier = False,
        dry_run: o.DryRun = False,
        show_prompts: o.ShowPrompts = False,
        device: o.Device = None,
        dtype: o.Dtype = None,
        quiet: o.Quiet = False,
    ) -> None:
        quiet = quiet or launched.rank() > 0  # of several processes one speaks
        with reporting_errors(None):
            settings, folder = o.config_and_folder(
                run, out, preset, config, overrides, lm__name=lm, corpus__source=corpus,
                corpus__eval_source=eval_corpus, site=site, lm__device=device, lm__dtype=dtype,
                report__frontier=list(o.FRONTIER) if frontier else None,
            )  # fmt: skip
        if dry_run or show_prompts:
            with reporting_errors(folder), progress_on_terminal(quiet) as progress:
                dry = pipeline.dry_run(
                    settings, folder, target=stage, force=force or (), prompts=show_prompts, progress=progress
                )
            show_dry_run(dry, show_prompts)
            return
        with reporting_errors(folder), progress_on_terminal(quiet) as progress:
            results = pipeline.run(settings, folder, force=force or (), target=stage, progress=progress)
        if quiet:
            return
        if results is None:
            OUT.print(f"{folder}: done up to {stage}", highlight=False)
            if stage == "measure":
                show_coders(pipeline.coder_results(folder))
            show_failures(pipeline.failure_counts(folder))
            show_costs(pipeline.llm_costs(folder))
            return
        if pipeline.asked_a_stand_in(folder):
            show_stand_in()
        show_conditions(results.headline_records())
        show_failures(pipeline.failure_counts(folder))
        show_edits(results.edits, results.in_prompt)
        show_costs(pipeline.llm_costs(folder))
        if results.report is not None:
            OUT.print(f"\nreport: {results.report}", soft_wrap=True, highlight=False)

    verb.__doc__ = does
    app.command(title, rich_help_panel="All of it" if title == "run" else "Its stages, in this order")(verb)


_register(
    "report",
    """Rewrite, splice back and measure: the whole chain. What is done is skipped.

    plainspoken run

    plainspoken run --lm ./stories260K --corpus self:3072x256 --eval-corpus tinystories.jsonl
    --site model.layers.2.mlp --set coder.k=16 --out runs/stories

    plainspoken run runs/stories --frontier   # go on with a run made before

    plainspoken run runs/stories --force train   # redo a stage and all that depends on it

    plainspoken run --preset paper --dry-run   # what language models would be asked, and the cost

    plainspoken run --preset paper-small   # the paper's protocol offline, in minutes
    """,
    "run",
)
_LLM_HELP = {
    "explain": """
    By a language model in place of the rules, here on a server on this machine; --dry-run tells first what it would be
    asked, and docs/llm.md how to name others:

    plainspoken explain --set explain.explainer=default --set explain.llm.service=openai
    --set explain.llm.model=NAME --set explain.llm.base_url=http://127.0.0.1:8000/v1 --out runs/told""",
    "simulate": """
    By a language model in place of the rules, here on OpenRouter, with the key in the environment variable that
    key_variable names; --dry-run tells first what it would be asked, and docs/llm.md how to name others:

    plainspoken simulate runs/told --set simulate.simulator=structured --set simulate.llm.service=openai
    --set simulate.llm.model=NAME --set simulate.llm.tokenizer=FOLDER
    --set simulate.llm.base_url=https://openrouter.ai/api/v1 --set simulate.llm.key_variable=OPENROUTER_API_KEY""",
}
"""What the help of stages that may ask a language model has beside that of all stages."""


for _stage in pipeline.STAGES:
    if _stage.name == "score":
        app.command(rich_help_panel="Its stages, in this order")(score)
        continue
    # Whoever trains a coder wants to know how good it is.
    _register(
        "measure" if _stage.name == "train" else _stage.name,
        f"{_stage.does[0].upper()}{_stage.does[1:]}{', and measure it' if _stage.name == 'train' else ''}.\n\n"
        "Does first what that rests on, and nothing that comes after it; what is done is skipped.\n\n"
        f"plainspoken {_stage.name} runs/pocket   # go on with a run made before\n\n"
        f"plainspoken {_stage.name} --lm ./my-model --corpus books/ --out runs/mine"
        f"\n\n{cleandoc(_LLM_HELP.get(_stage.name, ''))}",
        _stage.name,
    )


_Prompt = Annotated[str, typer.Option(help="Text to go on from; empty: from the start of a text.")]
_Rewritten = Annotated[
    bool, typer.Option("--rewritten/--original", help="The model rewritten in English, or as it is.")
]
_Tokens = Annotated[int, typer.Option(min=1, help="Tokens to write.")]
_Temperature = Annotated[float, typer.Option(min=0.0, help="0: always the likeliest token.")]
_Seed = Annotated[
    int, typer.Option(min=0, help="Of the random draw: with the same seed, the same sentences say the same.")
]


@app.command(rich_help_panel="What a run is good for")
def generate(
    run: o.OldRun = None,
    prompt: _Prompt = "",
    rewritten: _Rewritten = True,
    tokens: _Tokens = 128,
    temperature: _Temperature = 1.0,
    seed: _Seed = 0,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Let the model write, with its sites rewritten in English: from the sentences as they stand in the file now.

    A run that is not done yet is brought up to its calibration first, which may take as long as the run would.

    plainspoken generate runs/stories --prompt "Once upon a time"

    plainspoken generate runs/stories --original --prompt "Once upon a time"
    """
    folder = run_folder(run, 'generate {} --prompt "Once upon a time"')
    with reporting_errors(folder), progress_on_terminal(quiet) as progress:
        text = pipeline.generate(
            folder, prompt, rewritten=rewritten, tokens=tokens, temperature=temperature, seed=seed, device=device,
            progress=progress,
        )  # fmt: skip
    typer.echo(text)  # as it is: the terminal's own printer replaces :emoji: codes and tabs


app.command(rich_help_panel="What a run is good for")(dashboards)
app.command(rich_help_panel="What a run is good for")(trace)
app.command(rich_help_panel="What a run is good for")(intervene)
app.command(rich_help_panel="What a run is good for")(connections)
app.command(rich_help_panel="What a run is good for")(behaviour)
app.command(rich_help_panel="What a run is good for")(survey)
app.add_typer(study, name="study", rich_help_panel="What a run is good for")
app.command(rich_help_panel="What a run is good for")(replace)
app.command(rich_help_panel="Beside runs")(compare_coders)
app.command(rich_help_panel="Coders of other projects", cls=FormatsCommand)(convert)


@app.command(rich_help_panel="What a run is good for")
def settings() -> None:
    """Every setting with its default and what it means; set any of them with --set or in a TOML file.

    plainspoken settings

    plainspoken run --set coder.k=64 --out runs/k64
    """
    OUT.print(
        "Defaults are those of the preset pocket; with another --lm the preset own takes more text. Change any with "
        "--set NAME=VALUE, or in a TOML file given with "
        "--config:\n    seed = 1\n    [[coder]]\n    k = 64\n"
        "Who explains, scores and simulates may be a language model (docs/llm.md), on a server of this machine, say:\n"
        '    [[simulate]]\n    simulator = "all-at-once"\n'
        '    [[simulate.llm]]\n    service = "openai"\n    model = "NAME"\n'
        '    base_url = "http://127.0.0.1:8000/v1"\n'
        "or on OpenRouter, the key being in the environment variable that key_variable names:\n"
        '    [[explain]]\n    explainer = "default"\n'
        '    [[explain.llm]]\n    service = "openai"\n    model = "NAME"\n    tokenizer = "FOLDER"\n'
        '    base_url = "https://openrouter.ai/api/v1"\n    key_variable = "OPENROUTER_API_KEY"\n'.replace(
            "[[", r"\["
        ).replace("]]", "]"),
        highlight=False,
    )
    for setting in settings_help():
        told = escape(f" = {_shown(setting.default)}\n    {setting.help}")
        OUT.print(f"[bold]{setting.name}[/]{told}", highlight=False)


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def main() -> None:
    """The `plainspoken` command."""
    words = sys.argv[1:]
    if words and is_run_folder(Path(words[0])):
        show_error(f"{words[0]} is a run folder: say what to do with it, e.g. plainspoken run {shlex.quote(words[0])}")
        sys.exit(2)
    stop_on_sigterm()
    app(prog_name="plainspoken")
