"""Loss against the fraction of latents rewritten, between the model's own loss and that with all at zero."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plainspoken.report import numbers, svg
from plainspoken.report.data import Measured, SiteReport
from plainspoken.report.figures.frame import Frame, Picture, certainty, label_levels, new_axes, percent_axis, picture
from plainspoken.report.interval import Interval
from plainspoken.report.select import curve, orders_of, whole

BASELINES = ("original", "coder", "mean-latents", "zero-latents", "zero-output")
ORDER_NAMES = {"best": "best scored first", "random": "random order", "mass": "largest mass first"}
_COLOURS = {"best": svg.REWRITTEN, "random": svg.SECOND, "mass": svg.THIRD}
_MARKERS = {"best": "o", "random": "s", "mass": "^"}


@dataclass(frozen=True)
class Line:
    """A condition over fractions."""

    name: str
    rows: tuple[Measured, ...]
    colour: str
    marker: str
    dashed: bool
    original: float | None

    def band(self, row: Measured) -> Interval:
        """The interval to draw: the paired one (over the original, moved to its level) where it was recorded.

        The loss's own interval is mostly the variation between documents, which all conditions share.
        """
        if row.increase is None or self.original is None:
            return row.ce
        if row.increase.bounds is None:
            return Interval(row.ce.value, None, None)
        low, high = row.increase.bounds
        return Interval(row.ce.value, self.original + low, self.original + high)


def order_name(order: str | None) -> str:
    """The order as the page says it."""
    return ORDER_NAMES.get(order or "", order or "one order")


def loss_picture(site: SiteReport, key: str) -> Picture | None:
    """Three orders with bands, the shuffled control, the baselines; None when fewer than two fractions were run."""
    level = whole(site, "original")
    original = None if level is None else level.ce.value
    lines = [
        Line(order_name(order), curve(site, "rewritten", order), _COLOURS.get(order or "", svg.INK),
             _MARKERS.get(order or "", "D"), False, original)
        for order in orders_of(site, "rewritten")
    ]  # fmt: skip
    control = max((curve(site, "shuffled", order) for order in orders_of(site, "shuffled")), key=len, default=())
    if control:
        lines.append(Line("shuffled", control, svg.CONTROL, "x", True, original))
    if max((len(line.rows) for line in lines), default=0) < 2:
        return None
    ends = "; ".join(f"{line.name} ends at {numbers.nats(line.rows[-1].ce.value)}" for line in lines)
    levels = "; ".join(f"{name} {numbers.nats(row.ce.value)}" for name in BASELINES if (row := whole(site, name)))
    paired = original is not None and all(row.increase is not None for line in lines for row in line.rows)
    bands = [line.band(row) for line in lines for row in line.rows]
    of = ", of the difference from the original model" if paired and any(band.bounds for band in bands) else ""
    caption = (
        "Loss (nats a token) as more and more latents are read from their sentences instead of from the model, "
        f"{certainty(bands)}{of}; lower is better. Dotted: the levels to compare with."
    )
    label = f"Loss against the fraction rewritten: {ends}. Levels: {levels}."
    return picture(key, label, caption, lambda frame: _draw(site, lines, frame))


def _draw(site: SiteReport, lines: Sequence[Line], frame: Frame) -> Figure:
    figure = Figure(figsize=(frame.width, 3.7 if frame.narrow else 3.9))
    axes = new_axes(figure, 0.46, 0.84 if frame.narrow else 0.7, 1.05 if frame.narrow else 1.2, 0.12)
    low, high = _limits(site, lines)
    axes.set_ylim(low, high)
    axes.set_xlim(-0.015, 1.015)
    for line in lines:
        _draw_line(axes, line, high)
    levels = [(name, row.ce.value) for name in BASELINES if (row := whole(site, name)) and row.ce.value <= high]
    label_levels(axes, levels, frame)
    axes.set_xlabel("share of latents rewritten")
    percent_axis(axes.xaxis, 5)
    axes.yaxis.set_major_formatter(lambda value, _: numbers.fixed(value, 1 if high - low > 0.8 else 2))
    columns = 2 if frame.narrow else 4
    figure.legend(loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=columns, frameon=False, handlelength=1.8,
                  columnspacing=1.2, borderaxespad=0.1, labelcolor=svg.MUTED)  # fmt: skip
    return figure


def _limits(site: SiteReport, lines: Sequence[Line]) -> tuple[float, float]:
    """All baselines and rewritten lines in view; the control may leave at the top once it is far above them."""
    levels = [row.ce.value for name in BASELINES if (row := whole(site, name))]
    own = [bound for line in lines if not line.dashed for row in line.rows
           for bound in line.band(row).reach]  # fmt: skip
    low, high = min(levels + own), max(levels + own)
    reach = high + 0.45 * (high - low)
    control = [row.ce.value for line in lines if line.dashed for row in line.rows]
    high = max(high, min(reach, max(control, default=high)))
    pad = 0.04 * (high - low) or 0.01
    return low - pad, high + pad


def _draw_line(axes: Axes, line: Line, high: float) -> None:
    x = [row.fraction or 0.0 for row in line.rows]
    y = [row.ce.value for row in line.rows]
    if not line.dashed:
        lows, highs = zip(*(line.band(row).reach for row in line.rows), strict=True)
        axes.fill_between(x, lows, highs, color=line.colour, alpha=0.14, linewidth=0)
    style = (0, (4, 2)) if line.dashed else "solid"
    axes.plot(x, y, color=line.colour, linewidth=1.6, linestyle=style, marker=line.marker, markersize=3.8,
              markeredgewidth=1.2 if line.marker == "x" else 0, label=line.name, zorder=3)  # fmt: skip
    if y[-1] > high:
        # At the side where the line does not leave.
        left = x[next(place for place, level in enumerate(y) if level > high)] > 0.5
        axes.annotate(f"{line.name}: {numbers.nats(y[-1])} at {numbers.percent(x[-1])}",
                      (0.02 if left else 0.985, 0.985), xycoords="axes fraction", ha="left" if left else "right",
                      va="top", color=line.colour)  # fmt: skip
