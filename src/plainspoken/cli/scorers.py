"""What the terminal shows of scorers: a site's mean scores, over their intervals, beside those of the control."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from plainspoken.cli.layout import Cell, Row
from plainspoken.cli.show import OUT, UNBOUNDED, show_rows
from plainspoken.language.counted import counted

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
        show_rows(
            Row(("", ""), [(title, "[95 %]") for _, title in _SHOWN]),
            [Row((name, ""), [_cell(of, measure) for measure, _ in _SHOWN]) for name, of in lines],
        )


def _asked(record: Mapping[str, Any]) -> str:
    asked, answered = record["examples_asked"], record["examples_answered"]
    what = counted(asked, "(latent, token) pair" if record["scorer"] == "simulation" else "text")
    told = f"{what} of {counted(record['documents'], 'document')}, {counted(record['latents'], 'latent')}"
    if answered == asked:
        return f"{told}, all answered"
    # Why a simulator did not answer stands with the failures of its stage.
    faults = ", ".join(f"{kind} {count:,}" for kind, count in record.get("examples_unanswered", {}).items())
    return f"{told}, {answered / asked:.1%} answered" + (f" (without an answer: {faults})" if faults else "")


def _cell(record: Mapping[str, Any], name: str) -> Cell:
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return UNBOUNDED, ""
    return f"{value:.3f}", f"[{low:.3f}, {high:.3f}]" if low is not None and high is not None else UNBOUNDED
