"""What the terminal shows of scorers: a site's mean scores, over their intervals, beside those of the control."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from plainspoken.cli.show import OUT, UNBOUNDED

_SHOWN = (
    ("auprc", "auprc"),
    ("f1", "f1"),
    ("correlation", "correlation"),
    ("balanced_accuracy", "balanced accuracy"),
)


def show_scorers(site: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Each scorer's means: of the latents' own sentences, of another's (the control), and the difference."""
    for record in found:
        OUT.print(f"\n[bold]{escape(site)}, by {record['scorer']}[/]: {_asked(record)}", highlight=False)
        lines = [("own sentence", record)]
        if record["control"] is None:
            told = "no control: score.control is off, or fewer than two latents have a sentence"
            OUT.print(told, style="yellow", highlight=False)
        else:
            lines += [("another latent's", record["control"]), ("own above other", record["above_control"])]
        cells = [[_cell(of, name) for name, _ in _SHOWN] for _, of in lines]
        widths = [max(len(title), *(len(row[i]) for row in cells)) for i, (_, title) in enumerate(_SHOWN)]
        OUT.print(_line("", [title for _, title in _SHOWN], widths), style="dim", highlight=False, soft_wrap=True)
        for (name, _), row in zip(lines, cells, strict=True):
            OUT.print(_line(name, row, widths), markup=False, highlight=False, soft_wrap=True)


def _asked(record: Mapping[str, Any]) -> str:
    asked, answered = record["examples_asked"], record["examples_answered"]
    what = "(latent, token) pairs" if record["scorer"] == "simulation" else "texts"
    told = f"{asked:,} {what} of {record['documents']:,} documents, {record['latents']:,} latents"
    if answered == asked:
        return f"{told}, all answered"
    # Why a simulator did not answer stands with the failures of its stage.
    faults = ", ".join(f"{kind} {count:,}" for kind, count in record.get("examples_unanswered", {}).items())
    return f"{told}, {answered / asked:.1%} answered" + (f" (without an answer: {faults})" if faults else "")


def _line(name: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join([f"{name:<16}", *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))])


def _cell(record: Mapping[str, Any], name: str) -> str:
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return UNBOUNDED
    return f"{value:.3f} " + (f"[{low:.3f}, {high:.3f}]" if low is not None and high is not None else UNBOUNDED)
