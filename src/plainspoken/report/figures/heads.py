"""Heads as a heat map: the size of what each moves, a row a layer, the first at the bottom as in drawn circuits."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from plainspoken.report import numbers, svg
from plainspoken.report.figures.frame import WIDE, new_axes

ANNOTATED = 200
"""Heads up to which each cell holds its number; more would not fit."""
_CELL, _LEFT, _RIGHT, _TOP, _BOTTOM = 0.36, 0.7, 0.95, 0.5, 0.55
_LEAST, _MOST = 2.4, 9.0


def ov_png(norms: Sequence[Sequence[float]]) -> bytes:
    """‖W_Vᵀ W_O‖ of every head, by layer, as pixels; where a layer has fewer heads, its row ends early."""
    palette = svg.light()
    with rc_context({**svg.style(palette), "font.size": WIDE.size}):
        return svg.png(_draw(norms, palette), colours=256)


def _draw(norms: Sequence[Sequence[float]], palette: svg.Palette) -> Figure:
    heads = max(map(len, norms))
    values = np.full((len(norms), heads), np.nan)
    for layer, row in enumerate(norms):
        values[layer, : len(row)] = row
    cell = min(_CELL if heads > 8 else 2 * _CELL, _MOST / heads, _MOST / len(norms))
    wide, high = max(_LEAST, cell * heads), max(1.0, cell * min(1.0, 0.6 if heads <= 8 else 1.0) * len(norms))
    figure = Figure(figsize=(_LEFT + wide + _RIGHT, _BOTTOM + high + _TOP))
    axes = new_axes(figure, _LEFT, _BOTTOM, _RIGHT, _TOP)
    colours = LinearSegmentedColormap.from_list("ov", ["#ffffff", palette.series[0]])
    drawn = axes.imshow(values, cmap=colours, vmin=0, aspect="auto", origin="lower", interpolation="nearest")
    axes.set_xlabel("head", labelpad=2)
    axes.set_ylabel("layer", labelpad=2)
    axes.set_title("OV norms: ‖W_Vᵀ W_O‖ of each head, norms’ weights folded in", loc="left", fontsize=WIDE.size, pad=8)
    axes.set_xticks(_ticks(heads))
    axes.set_yticks(_ticks(len(norms)))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if values.size <= ANNOTATED:
        _annotate(axes, values, palette)
    width, height = figure.get_size_inches()
    bar = figure.add_axes(((width - _RIGHT + 0.15) / width, _BOTTOM / height, 0.12 / width, high / height))
    figure.colorbar(drawn, cax=bar).outline.set_visible(False)
    bar.tick_params(length=2, width=0.8)
    return figure


def _annotate(axes: Axes, values: Float[np.ndarray, "layers h"], palette: svg.Palette) -> None:
    largest = np.nanmax(values)
    for (layer, head), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = largest > 0 and value / largest > 0.6
            shown = numbers.fixed(float(value), 2 if largest < 10 else 1 if largest < 100 else 0)
            axes.text(head, layer, shown, ha="center", va="center", fontsize=WIDE.size - 1.5,
                      color="#ffffff" if dark else palette.ink)  # fmt: skip


def _ticks(count: int) -> list[int]:
    """Every one, or every few where there are many."""
    step = max(1, -(-count // 16))
    return list(range(0, count, step))
