"""The frontier: what is recovered within a budget of words, the answer to how detailed explanations must be."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from plainspoken.language.counted import counted
from plainspoken.report import numbers, svg
from plainspoken.report.data import FrontierPoint, SiteReport
from plainspoken.report.figures.frame import Frame, Picture, certainty, label_levels, new_axes, percent_axis, picture
from plainspoken.report.select import whole


def frontier_picture(site: SiteReport, key: str) -> Picture | None:
    """Recovered against words a latent; None with fewer than two budgets."""
    points = sorted(site.frontier, key=lambda point: point.budget)
    if len(points) < 2:
        return None
    said = "; ".join(
        f"{counted(point.budget, 'word')}: {numbers.percent_interval(point.recovered)}" for point in points
    )
    caption = (
        "The frontier: recovered when every latent is rewritten, against the words its sentence may use (mean over "
        f"latents; each step to the right is a doubling), {certainty(point.recovered for point in points)}. "
        "Dotted: the levels to compare with; below, the same with the sentences shuffled."
        + _spoken(points)
        + " Hollow: incomplete, for some of what the simulator was asked got no answer."
        * any(not point.complete for point in points)
    )
    return picture(key, f"Recovered against words: {said}.", caption, lambda frame: _draw(site, points, frame))


def _spoken(points: Sequence[FrontierPoint]) -> str:
    """Of how many latents a budget has a sentence, where that is not the same at all: the others are put at 0."""
    told = [f"{counted(p.budget, 'word')} {numbers.count(p.explained)}" for p in points if p.explained is not None]
    if len({(point.explained, point.latents) for point in points}) < 2:
        return ""
    return f" Latents with a sentence, the others put at 0: {', '.join(told)}."


def _draw(site: SiteReport, points: Sequence[FrontierPoint], frame: Frame) -> Figure:
    figure = Figure(figsize=(frame.width, 2.7))
    axes = new_axes(figure, 0.62, 0.46, 1.05 if frame.narrow else 1.2, 0.2)
    x = [float(point.budget) for point in points]
    y = [point.recovered.value for point in points]
    lows, highs = zip(*(p.recovered.reach for p in points), strict=True)
    axes.set_xscale("log", base=2)
    axes.set_xlim(x[0] / 1.25, x[-1] * 1.25)
    axes.set_ylim(min(0.0, *lows) - 0.02, max(1.0, *highs) + 0.02)
    axes.fill_between(x, lows, highs, color=svg.REWRITTEN, alpha=0.14, linewidth=0)
    axes.plot(x, y, color=svg.REWRITTEN, linewidth=1.8)
    for place, share, point in zip(x, y, points, strict=True):
        fill = svg.REWRITTEN if point.complete else "none"
        axes.plot(place, share, color=svg.REWRITTEN, marker="o", markersize=5, markerfacecolor=fill)
    for place, share in zip(x, y, strict=True):
        axes.annotate(numbers.percent(share), (place, share), xytext=(0, 7), textcoords="offset points", ha="center",
                      color=svg.INK, fontweight="bold")  # fmt: skip
    mean = whole(site, "mean-latents")
    levels = [("coder", 1.0), ("zero-latents", 0.0)]
    if mean is not None and mean.recovered is not None:
        levels.append(("mean-latents", mean.recovered.value))
    label_levels(axes, levels, frame)
    axes.set_xticks(x, [str(point.budget) for point in points])
    axes.minorticks_off()
    axes.set_xlabel("words a latent (budget)")
    axes.set_ylabel("recovered")
    percent_axis(axes.yaxis)
    return figure
