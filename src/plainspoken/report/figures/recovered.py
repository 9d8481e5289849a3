"""Recovered, with intervals: one row a condition, or one row a site."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plainspoken.report import numbers, svg
from plainspoken.report.data import ReportData, SiteReport
from plainspoken.report.figures.frame import Frame, Picture, certainty, new_axes, percent_axis, picture
from plainspoken.report.interval import Interval
from plainspoken.report.select import whole, whole_rows

# A control far below zero would squeeze everything else; it is drawn as an arrow and its number stands at the right.
FURTHEST_LEFT = -1.5

# Breadth of a character in inches, on average, at the size of the figures' type.
CHARACTER = 0.068

_COLOURS = {
    "rewritten": svg.REWRITTEN,
    "shuffled": svg.CONTROL,
    "shuffled-refit": svg.CONTROL,
}


@dataclass(frozen=True)
class Row:
    """One row of a forest plot."""

    label: str
    share: Interval
    colour: str
    strong: bool
    bar: bool = False


def conditions_picture(site: SiteReport, key: str) -> Picture | None:
    """Where each condition lands between all latents at zero (0 %) and the coder (100 %); None if none does."""
    rows = [
        Row(
            row.condition + " *" * (not row.complete),
            row.recovered,
            _COLOURS.get(row.condition, svg.MUTED),
            row.condition == "rewritten" and row.withheld is None,
        )
        for row in whole_rows(site)
        if row.recovered is not None and row.condition != "original"
    ]
    if not rows:
        return None
    said = "; ".join(f"{row.label} {numbers.percent_interval(row.share)}" for row in rows)
    caption = (
        "Recovered: 0% is the loss with every latent at zero, 100% the loss of the coder with its true latents. "
        f"Dots {certainty(row.share for row in rows)}, everything at once rewritten."
        + " * Incomplete: some of the pairs asked about got no answer, and stand at 0 or lack in the calibration."
        * any(row.label.endswith(" *") for row in rows)
    )
    return picture(key, f"Recovered, by condition: {said}.", caption, lambda frame: _forest(rows, frame))


def sites_picture(data: ReportData, key: str) -> Picture | None:
    """A bar a site, and one for all sites rewritten together, each above its control; None with a single site."""
    if len(data.sites) < 2:
        return None
    rows: list[Row] = []
    undefined: list[str] = []
    for site in (*data.sites, *((data.joint,) if data.joint else ())):
        rewritten, shuffled = whole(site, "rewritten"), whole(site, "shuffled")
        name = "all together" if site is data.joint else site.site
        if rewritten is None or rewritten.recovered is None:
            undefined.append(name)
            continue
        label = name + " *" * (not rewritten.complete)
        rows.append(Row(label, rewritten.recovered, svg.REWRITTEN, site is data.joint, True))
        if shuffled is not None and shuffled.recovered is not None:
            rows.append(Row("shuffled" + " *" * (not shuffled.complete), shuffled.recovered, svg.CONTROL, False))
    if not rows:
        return None
    said = "; ".join(f"{row.label} {numbers.percent_interval(row.share)}" for row in rows)
    caption = (
        "Recovered at each site rewritten alone, and with all of them rewritten at once, each beside the same with its "
        f"sentences shuffled, {certainty(row.share for row in rows)}. "
        "Each is measured against its own zero (those latents at zero) and its own coder."
        + " * Incomplete: some of the pairs asked about got no answer and stand at 0."
        * any(row.label.endswith(" *") for row in rows)
        + f" Not defined, since zeroing the latents costs no clear loss: {', '.join(undefined)}." * bool(undefined)
    )
    return picture(key, f"Recovered, by site: {said}.", caption, lambda frame: _forest(rows, frame))


def _forest(rows: Sequence[Row], frame: Frame) -> Figure:
    """Names at the left and figures at the right of the plot; above each row where the frame is narrow."""
    step = 0.4 if frame.narrow else 0.235
    figure = Figure(figsize=(frame.width, step * len(rows) + 0.42))
    left, right = (0.1, 0.1) if frame.narrow else _margins(rows, frame)
    axes = new_axes(figure, left, 0.34, right, 0.08)
    lowest = max(FURTHEST_LEFT, min(0.0, *(row.share.reach[0] for row in rows)))
    highest = max(1.0, *(row.share.reach[1] for row in rows))
    pad = 0.04 * (highest - lowest)
    axes.set_xlim(lowest - pad, highest + pad)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    for edge in (0.0, 1.0):
        axes.axvline(edge, color=svg.LINE, linewidth=1, zorder=0)
    for place, row in enumerate(rows):
        _draw_row(axes, place + (0.22 if frame.narrow else 0.0), row, lowest - pad, frame)
        _name_row(axes, place, row, frame, left)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    percent_axis(axes.xaxis, 4 if frame.narrow else 6)
    return figure


def _margins(rows: Sequence[Row], frame: Frame) -> tuple[float, float]:
    """Inches for the names and for the figures."""
    left = 0.12 + CHARACTER * max(len(row.label) for row in rows)
    right = 0.2 + CHARACTER * max(len(numbers.percent_interval(row.share)) for row in rows)
    return min(left, 0.4 * frame.width), right


def _name_row(axes: Axes, place: int, row: Row, frame: Frame, left: float) -> None:
    share, room = numbers.percent_interval(row.share), frame.width - 0.2 if frame.narrow else left - 0.06
    label = _shorten(row.label, int(room / CHARACTER) - (len(share) + 2 if frame.narrow else 0))
    colour, weight = (svg.INK, "bold") if row.strong else (svg.MUTED, "normal")
    for text, edge, sides in ((label, 0.0, ("right", "left")), (share, 1.0, ("left", "right"))):
        axes.annotate(
            text, (edge, place), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            xytext=(0, 4) if frame.narrow else (-5 if edge == 0 else 8, 0),
            ha=sides[frame.narrow], va="baseline" if frame.narrow else "center_baseline", color=colour,
            fontweight=weight,
        )  # fmt: skip


def _draw_row(axes: Axes, place: float, row: Row, edge: float, frame: Frame) -> None:
    share = row.share
    low, high = share.reach
    if row.bar:
        axes.barh(
            place,
            share.value,
            height=0.3 if frame.narrow else 0.62,
            color=row.colour,
            alpha=0.85 if row.strong else 0.45,
            linewidth=0,
        )
    if high < edge:
        axes.plot([edge], [place], marker="<", markersize=5, color=row.colour, clip_on=False, markeredgewidth=0)
        return
    ink = svg.INK if row.bar else row.colour
    if low < edge:
        axes.plot([edge], [place], marker="<", markersize=4, color=ink, clip_on=False, markeredgewidth=0)
    axes.plot([max(low, edge), high], [place, place], color=ink, linewidth=1.4, solid_capstyle="butt")
    if not row.bar:
        size = 6 if row.strong else 4.5
        axes.plot([share.value], [place], marker="o", markersize=size, color=row.colour, markeredgewidth=0)


def _shorten(label: str, room: int) -> str:
    """A module path too long for its margin loses its beginning: the end tells sites apart."""
    return label if len(label) <= room else f"…{label[-(room - 1) :]}"
