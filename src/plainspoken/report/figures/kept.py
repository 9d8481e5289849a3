"""A behaviour recovered as the number of latents, or neurons, kept grows."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from plainspoken.report import numbers, svg
from plainspoken.report.figures.frame import Frame, Picture, label_levels, new_axes, picture

_LINES = (
    ("latents", "strongest", "strongest latents", svg.REWRITTEN, "o", "solid"),
    ("latents", "random", "random latents", svg.REWRITTEN, "x", (0, (4, 2))),
    ("neurons", "strongest", "strongest neurons", svg.SECOND, "s", "solid"),
    ("neurons", "random", "random neurons", svg.SECOND, "x", (0, (4, 2))),
)


def kept_picture(record: Mapping[str, Any], key: str) -> Picture:
    """`record`: as `evaluate.kept.Kept.record` has it."""
    levels = [("the model", record["original"]), ("all coders", record["coders"])]
    said = "; ".join(f"{name} {numbers.fixed(value, 2)}" for name, value in levels)
    caption = (
        "Logit difference (mean over prompts, with 95% intervals) with so many latents, or neurons, kept and all "
        "others at their mean: those that contribute most, and as many at random of the same "
        "layers, up to as many as fire. "
        "Dotted: the model as it is, and with every FFN replaced by its coder."
    )
    return picture(
        key, f"Logit difference by number kept: {said}.", caption, lambda frame: _draw(record, levels, frame)
    )


def _draw(record: Mapping[str, Any], levels: list[tuple[str, float]], frame: Frame) -> Figure:
    figure = Figure(figsize=(frame.width, 3.9))
    axes = new_axes(figure, 0.58, 0.95 if frame.narrow else 0.72, 0.85 if frame.narrow else 1.0, 0.12)
    for unit, order, name, colour, marker, style in _LINES:
        _draw_line(axes, record[unit][order], name, colour, marker, style)
    most = max(point["kept"] for unit, order, *_ in _LINES for point in record[unit][order])
    axes.set_xscale("symlog", base=2, linthresh=1, linscale=0.6)
    axes.set_xlim(-0.15, most * 1.25)
    ticks = [0, 1, *(4**i for i in range(1, 12) if 4**i <= most)]
    axes.set_xticks(ticks)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.count(round(value))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.fixed(value, 0)))
    label_levels(axes, levels, frame)
    axes.set_ylabel("logit difference")
    axes.set_xlabel("kept, of all FFNs with a coder")
    figure.legend(loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=2 if frame.narrow else 4, frameon=False,
                  handlelength=1.8, columnspacing=1.2, borderaxespad=0.1, labelcolor=svg.MUTED)  # fmt: skip
    return figure


def _draw_line(axes: Axes, points: list[Mapping[str, Any]], name: str, colour: str, marker: str, style: Any) -> None:
    x, y = [point["kept"] for point in points], [point["difference"] for point in points]
    lows, highs = (
        [point["difference"] if point[bound] is None else point[bound] for point in points]
        for bound in ("difference_low", "difference_high")
    )
    axes.fill_between(x, lows, highs, color=colour, alpha=0.14 if style == "solid" else 0.07, linewidth=0)
    axes.plot(x, y, color=colour, linewidth=1.6, linestyle=style, marker=marker, markersize=3.8,
              markeredgewidth=1.2 if marker == "x" else 0, label=name, zorder=3)  # fmt: skip
