"""Edges against effects: a scatter of what the graph predicts of each ablation and what it did, beside the control."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plainspoken.circuits.effects import Correlation, Effects
from plainspoken.circuits.effects_told import MEASURED, PREDICTED, SHORT, Compared, compared
from plainspoken.report import numbers, svg
from plainspoken.report.figures.frame import Frame, Picture, new_axes, picture

_PANEL = {"direct": "predicted: direct edge", "total": "predicted: total"}


def effects_picture(effects: Effects, key: str) -> Picture:
    """A panel for each prediction and each way of measuring, all on one scale."""
    rows = {row.measured: row for row in compared(effects)}
    said = "; ".join(
        f"{SHORT[name]}, {PREDICTED[which]}: r {correlation(getattr(row, which))}"
        for name, row in rows.items()
        for which in PREDICTED
    )
    caption = (
        "Each dot is a latent ablated at its token and a root that changed: across, the change that the graph "
        "predicts; up, the change that was measured, both in units of the root’s value. On the line they agree. Red, "
        "at 0 where the graph predicts nothing: the control, latents outside the graph, drawn at random. "
        "r is over the graph’s latents, with a 95% interval of a bootstrap over latents."
    )
    return picture(key, f"Predicted against measured: {said}.", caption, lambda frame: _draw(effects, rows, frame))


def correlation(found: Correlation | None) -> str:
    """0.93 [0.88, 0.97]."""
    if found is None:
        return numbers.UNDEFINED
    value, low, high = (numbers.fixed(each, 2) for each in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def _draw(effects: Effects, rows: dict[str, Compared], frame: Frame) -> Figure:
    """Wide: measured across, predicted down; narrow: the other way round."""
    cells = [(which, name) for which in PREDICTED for name in MEASURED]
    cells = sorted(cells, key=lambda cell: list(MEASURED).index(cell[1])) if frame.narrow else cells
    columns = 2 if frame.narrow else 3
    left, right, top, bottom, between, above = 0.55, 0.08, 0.2, 0.45, 0.12, 0.5 if frame.narrow else 0.7
    side = (frame.width - left - right - between * (columns - 1)) / columns
    down = len(cells) // columns
    height = top + down * side + (down - 1) * above + bottom
    figure = Figure(figsize=(frame.width, height))
    limits = _limits(effects)
    for place, (which, name) in enumerate(cells):
        row, column = divmod(place, columns)
        x, y = left + column * (side + between), top + row * (side + above)
        axes = new_axes(figure, x, height - y - side, frame.width - x - side, y)
        _panel(axes, effects, which, name, limits)
        r = getattr(rows[name], which)
        axes.set_title(f"r {correlation(r)}", fontsize=frame.size, color=svg.INK, pad=3)
        _label(axes, which, name, row == down - 1 or not frame.narrow, column == 0, frame)
    return figure


def _label(axes: Axes, which: str, name: str, below: bool, beside: bool, frame: Frame) -> None:
    axes.set_xlabel(_PANEL[which] if below else "", labelpad=2)
    axes.annotate(
        SHORT[name], (0.04, 0.96), xycoords="axes fraction", va="top", color=svg.MUTED, fontsize=frame.size - 0.5
    )
    if beside:
        axes.set_ylabel("measured", labelpad=2)
    else:
        axes.set_yticklabels([])


def _limits(effects: Effects) -> tuple[float, float]:
    groups = [effects.measured, effects.control]
    values = [getattr(effects, which).ravel() for which in PREDICTED]
    values += [getattr(group, name).ravel() for group in groups for name in MEASURED]
    every = np.concatenate([*values, np.zeros(1)])
    low, high = float(every.min()), float(every.max())
    pad = 0.08 * (high - low) or 1.0
    return low - pad, high + pad


def _panel(axes: Axes, effects: Effects, which: str, name: str, limits: tuple[float, float]) -> None:
    axes.plot(limits, limits, color=svg.LINE, linewidth=1, zorder=0)
    for line in (axes.axhline, axes.axvline):
        line(0, color=svg.LINE, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    control = getattr(effects.control, name).ravel()
    _dots(axes, np.zeros(len(control)), control, svg.CONTROL, 3.0)
    _dots(axes, getattr(effects, which).ravel(), getattr(effects.measured, name).ravel(), svg.REWRITTEN, 3.8)
    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _dots(axes: Axes, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, colour: str, size: float):
    axes.plot(x, y, linestyle="none", marker="o", markersize=size, color=colour, alpha=0.65, markeredgewidth=0)
