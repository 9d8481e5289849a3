"""Edges against effects on the terminal: correlations with their intervals, sizes beside the control's."""

from typing import TYPE_CHECKING

from plainspoken.cli.layout import Cell, Row
from plainspoken.cli.show import OUT, UNBOUNDED, show_rows
from plainspoken.language.counted import counted

if TYPE_CHECKING:  # it brings torch
    from plainspoken.circuits.effects import Correlation, Effects


def show_effects(effects: "Effects | None") -> None:
    """Predicted against measured; None: the graph had no latent to ablate."""
    if effects is None:
        OUT.print(
            "\nThe graph has no latent to ablate, so that there are no effects to measure: keep more with --nodes"
        )
        return
    from plainspoken.circuits.effects_told import SHORT, compared, control_told, rounded, withheld

    n = len(effects.measured.latents)
    OUT.print(
        f"\n[bold]edges against effects[/]: {counted(n, 'latent')} of the graph ablated one by one, and "
        f"{control_told(effects)}; r of predicted with measured, over latents",
        highlight=False,
    )
    head = Row(
        ("measured in", ""),
        [("r, direct", "[95 %]"), ("r, total", "[95 %]"), ("mean |change|", ""), ("of control", "")],
    )
    rows = [
        Row((SHORT[row.measured], ""), [_r(row.direct), _r(row.total), (_size(row.size), ""), (_size(row.control), "")])
        for row in compared(effects)
    ]
    show_rows(head, rows)
    for why in filter(None, (withheld(effects), rounded(effects))):
        OUT.print(why, style="red", markup=False, highlight=False)


def _r(found: "Correlation | None") -> Cell:
    if found is None:
        return UNBOUNDED, ""
    from plainspoken.report.numbers import fixed

    value, low, high = (fixed(each, 2) for each in (found.value, found.low, found.high))
    return value, f"[{low}, {high}]"


def _size(value: float | None) -> str:
    return UNBOUNDED if value is None else f"{value:.3g}"
