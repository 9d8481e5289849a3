"""The verb that replaces every FFN by its coder at once."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.layout import Cell, Row
from plainspoken.cli.show import OUT, UNBOUNDED, progress_on_terminal, show_rows
from plainspoken.cli.which import run_folder
from plainspoken.language.counted import counted

_CONDITIONS = {"original": "the model as it is", "coders": "its coders", "zero": "the zero vector", "mean": "its mean"}
_Tokens = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens of calibrate text to measure on; default: measure.tokens.", show_default=False),
]


def replace(
    run: o.OldRun = None,
    tokens: _Tokens = None,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Replace every FFN that has a coder by it, all at once: what the model loses, beside no FFN at all.

    Cross-entropy and KL from the model as it is, nats a token: with every FFN's output from its coder, with the
    zero vector in its place, with its mean. Recovered is the share of what the ablation costs that the coders
    save. Each FFN alone stands beneath: what is missing at one reaches the next, so that together they may cost more
    than the sum.

    Measured on calibrate documents, on which no coder was trained; intervals are 95 %, over documents. Written to
    RUN/replace/replaced.json.

    plainspoken train --site 'gpt_neox.layers.*.mlp' --out runs/all

    plainspoken replace runs/all

    plainspoken replace runs/all --tokens 5000
    """
    folder = run_folder(run, "replace {}")
    with reporting_errors(folder, "replace"), progress_on_terminal(quiet) as progress:
        found = pipeline.replace_ffns(folder, tokens=tokens, device=device, progress=progress)
    if quiet:
        return
    record = found.record
    text = f"{counted(record['documents'], 'document')}, {counted(record['predicted_tokens'], 'predicted token')}"
    OUT.print(f"{counted(len(record['coders']), 'FFN')} replaced at once ({text} of {record['part']})", highlight=False)
    _show_levels(record["together"])
    _show_sites(record)
    OUT.print(f"written: {escape(str(found.file))}", highlight=False, soft_wrap=True)


def _show_levels(record: Mapping[str, Any]) -> None:
    """One row a condition, everything at once."""
    rows = [
        Row((name, ""), [_cell(record, f"ce_{key}", "{:.3f}"), _cell(record, f"kl_{key}", "{:.3f}")])
        for key, name in _CONDITIONS.items()
    ]
    show_rows(Row(("all at once", ""), [("CE", "[95 %]"), ("KL", "[95 %]")]), rows)


def _show_sites(record: Mapping[str, Any]) -> None:
    """One row for all at once, one for each FFN alone: what its coder costs, and saves."""
    columns = (
        (("coders'", "CE"), "ce_coders", "{:.3f}"),
        (("over", "original"), "increase", "{:+.3f}"),
        (("", "KL"), "kl_coders", "{:.3f}"),
        (("recovered", "over zero"), "recovered_zero", "{:.2f}"),
        (("recovered", "over mean"), "recovered_mean", "{:.2f}"),
    )
    every = {"all at once": record["together"], **record["alone"]}
    rows = [Row((name, ""), [_cell(each, *column[1:]) for column in columns]) for name, each in every.items()]
    OUT.print("\n[dim]all at once, and each alone; beneath each figure its interval \\[95 %][/]", highlight=False)
    show_rows(Row(("", ""), [title for title, _, _ in columns]), rows, abreast=False)


def _cell(record: Mapping[str, Any], name: str, form: str) -> Cell:
    """A figure over its interval; the model as it is has no KL from itself."""
    if name not in record:
        return "", ""
    if record[name] is None:
        return "undefined", ""
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    if low is None:
        return form.format(record[name]), UNBOUNDED
    return form.format(record[name]), f"[{form.format(low)}, {form.format(high)}]"
