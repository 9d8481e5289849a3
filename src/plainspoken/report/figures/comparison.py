"""Kinds of coder side by side: what splicing one in costs, and what it leaves unexplained, against how sparse it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plainspoken.report import numbers, svg
from plainspoken.report.figures.frame import WIDE, Frame, Picture, certainty, new_axes, picture
from plainspoken.report.interval import Interval

NAMES = {"transcoder": "transcoder", "skip-transcoder": "skip transcoder", "sae": "SAE of the output"}
_MARKERS = ("o", "^", "s")
_OCTAVES = 2.0
"""Least range of latents a token: what differs by a hundredth must not stand at opposite ends."""
_MARGIN = 0.1  # octaves on either side of it


@dataclass(frozen=True)
class ComparedCoder:
    """One coder: its kind, the k it was trained with, latents a token, loss over the original (nats a token), FVU."""

    kind: str
    k: int
    l0: Interval | None
    increase: Interval | None
    fvu: Interval | None


def comparison_picture(coders: Sequence[ComparedCoder], key: str) -> Picture:
    """One line a kind: loss over the original's and FVU, against latents a token."""
    said = "; ".join(
        f"{NAMES[coder.kind]}, k = {coder.k}: {numbers.small_nats(coder.increase)} nats a token" for coder in coders
    )
    caption = (
        "What splicing a coder in costs, and what it leaves unexplained of the FFN’s output, against the latents that "
        f"fire at a token, {certainty(coder.increase for coder in coders)}."
    )
    return picture(key, f"Loss over the original: {said}.", caption, lambda frame: _draw(coders, frame, svg.PAGE))


def comparison_png(coders: Sequence[ComparedCoder]) -> bytes:
    """The same as pixels."""
    palette = svg.light()
    with rc_context({**svg.style(palette), "font.size": WIDE.size}):
        return svg.png(_draw(coders, WIDE, palette))


def _draw(coders: Sequence[ComparedCoder], frame: Frame, palette: svg.Palette) -> Figure:
    if frame.narrow:
        figure = Figure(figsize=(frame.width, 5.6))
        places = ((0.62, 3.3, 0.15, 0.15), (0.62, 0.75, 0.15, 2.7))
    else:
        figure = Figure(figsize=(frame.width, 3.1))
        places = ((0.62, 0.75, 3.85, 0.15), (4.15, 0.75, 0.15, 0.15))
    loss, fvu = (new_axes(figure, *place) for place in places)
    _lines(loss, [(c.kind, c.l0, c.increase) for c in coders], palette)
    _lines(fvu, [(c.kind, c.l0, c.fvu) for c in coders], palette)
    loss.set_ylabel("loss over the original, nats a token")
    fvu.set_ylabel("fraction of variance unexplained")
    handles, labels = loss.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.06, 0.0), ncols=1 if frame.narrow else 3,
                  frameon=False, borderaxespad=0.1, labelcolor=palette.muted)  # fmt: skip
    return figure


def _lines(axes: Axes, found: Sequence[tuple[str, Interval | None, Interval | None]], palette: svg.Palette) -> None:
    for kind, colour, marker in zip(NAMES, palette.series, _MARKERS, strict=True):
        mine = [(l0.value, at) for name, l0, at in found if name == kind and l0 is not None and at is not None]
        if not mine:
            continue
        x, y = [l0 for l0, _ in mine], [at.value for _, at in mine]
        bars = [[at.value - at.reach[0] for _, at in mine], [at.reach[1] - at.value for _, at in mine]]
        axes.errorbar(x, y, bars, color=colour, linewidth=1.6, elinewidth=1.0, capsize=2, marker=marker,
                      markersize=4.2, markeredgewidth=0, label=NAMES[kind])  # fmt: skip
    axes.set_xscale("log", base=2)
    levels = [math.log2(l0.value) for _, l0, at in found if l0 is not None and at is not None and l0.value > 0]
    if levels and max(levels) - min(levels) < _OCTAVES:
        middle = (max(levels) + min(levels)) / 2
        axes.set_xlim(2 ** (middle - _OCTAVES / 2 - _MARGIN), 2 ** (middle + _OCTAVES / 2 + _MARGIN))
    low, high = (np.log2(bound) for bound in axes.get_xlim())
    ticks = [2**power for power in range(math.ceil(low), math.floor(high) + 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("latents a token (L0)")
