"""How well single latents are simulated: correlation, sensitivity against specificity, firing rates."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from plainspoken.report import numbers, svg
from plainspoken.report.data import SiteReport
from plainspoken.report.figures.frame import Frame, Picture, new_axes, picture
from plainspoken.report.latents import LatentScore

# More dots than this print as one blot and weigh the page down: every n-th latent is drawn.
MOST_DOTS = 3000
# A latent that is never simulated falsely has specificity 1, which a logarithmic axis cannot hold.
LEAST_FALSE = 1e-5


def scores_picture(site: SiteReport, key: str) -> Picture | None:
    """Three panels over a site's latents; None when no latent has a defined score."""
    scored = [score for score in site.scores if score.correlation is not None]
    if not scored:
        return None
    median = float(np.median([score.correlation or 0.0 for score in scored]))
    unscored = len(site.scores) - len(scored)
    dots = [score for score in scored if score.sensitivity is not None and score.specificity is not None]
    step = math.ceil(len(dots) / MOST_DOTS) if dots else 1
    caption = (
        f"Single latents, {numbers.count(len(scored))} scored"
        + (f" ({numbers.count(unscored)} more have no defined score here)" if unscored else "")
        + ". Correlation: of simulated with true activation, over all tokens. Sensitivity: share of true firings that "
        "are simulated; specificity: share of the other tokens at which no firing is simulated, on a scale that "
        "stretches towards 100%, because most latents fire at few tokens."
        + (f" Every {step}th dot drawn." if step > 1 else "")
    )
    label = f"Scores of single latents: median correlation {numbers.fixed(median, 2)}."
    return picture(key, label, caption, lambda frame: _draw(scored, dots[::step], median, frame))


def _draw(scored: Sequence[LatentScore], dots: Sequence[LatentScore], median: float, frame: Frame) -> Figure:
    margins = ((0.54, 0.5), (0.58, 0.5), (0.54, 0.5))
    height = 2.3
    figure = Figure(figsize=(frame.width, 3 * height if frame.narrow else height))
    third = frame.width / 3
    panels: list[Axes] = []
    for place, (left, bottom) in enumerate(margins):
        if frame.narrow:
            below, above = (2 - place) * height, place * height
            panels.append(new_axes(figure, left, below + bottom, 0.15, above + 0.26))
        else:
            panels.append(new_axes(figure, place * third + left, bottom, (2 - place) * third + 0.12, 0.26))
    _correlations(panels[0], [score.correlation or 0.0 for score in scored], median)
    _errors(panels[1], dots)
    _rates(panels[2], [score.rate for score in scored if score.rate > 0])
    return figure


def _histogram(axes: Axes, values: Sequence[float], edges: np.ndarray, colour: str) -> None:
    counts, _ = np.histogram(values, bins=edges)
    axes.stairs(counts, edges, fill=True, color=colour, alpha=0.75, linewidth=0)
    axes.set_ylim(0, max(int(counts.max()), 1) * 1.08)
    axes.set_ylabel("latents")
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)  # type: ignore[attr-defined]


def _correlations(axes: Axes, values: Sequence[float], median: float) -> None:
    low = -1.0 if min(values) < -0.05 else 0.0
    _histogram(axes, np.clip(values, low, 1.0).tolist(), np.linspace(low, 1.0, 26), svg.REWRITTEN)
    axes.axvline(median, color=svg.INK, linewidth=1.2)
    axes.set_title(f"correlation (median {numbers.fixed(median, 2)})", loc="left", color=svg.INK, pad=6)
    axes.set_xlim(low, 1.0)
    ticks = [low, (low + 1) / 2, 1.0]
    axes.set_xticks(ticks, [numbers.fixed(tick, 1) for tick in ticks])
    axes.set_xlabel("simulated with true")


def _errors(axes: Axes, dots: Sequence[LatentScore]) -> None:
    false = np.clip([1 - (score.specificity or 0.0) for score in dots], LEAST_FALSE, 1.0)
    found = np.array([score.sensitivity or 0.0 for score in dots])
    axes.set_xscale("log")
    axes.set_xlim(1.4, LEAST_FALSE / 1.6)
    axes.set_ylim(-0.03, 1.03)
    _dots(axes, false, found)
    axes.set_xticks([1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5], ["0", "90%", "", "99.9%", "", "100%"])
    axes.minorticks_off()
    axes.set_yticks([0.0, 0.5, 1.0], ["0", "50%", "100%"])
    axes.set_title("found, and left alone", loc="left", color=svg.INK, pad=6)
    axes.set_xlabel("specificity")
    axes.set_ylabel("sensitivity", labelpad=0)


def _dots(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """All dots as one path of round-capped strokes without length: a tenth of the bytes of as many markers."""
    if not len(x):
        return
    vertices = np.repeat(np.column_stack([x, y]), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(x))
    patch = PathPatch(Path(vertices, codes), edgecolor=svg.REWRITTEN, facecolor="none", linewidth=2.6, alpha=0.45,
                      capstyle="round", snap=False)  # fmt: skip
    axes.add_patch(patch)


def _rates(axes: Axes, rates: Sequence[float]) -> None:
    axes.set_title("firing rate", loc="left", color=svg.INK, pad=6)
    axes.set_xscale("log")
    if rates:
        low, high = math.floor(math.log10(min(rates))), max(math.ceil(math.log10(max(rates))), -1)
        edges = np.logspace(low, high, 1 + 5 * max(high - low, 1))
        _histogram(axes, rates, edges, svg.MUTED)
        ticks = [10.0**power for power in range(low, high + 1)]
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xticks(
            ticks, [_one_in(tick) if place % 2 == 0 or len(ticks) < 4 else "" for place, tick in enumerate(ticks)]
        )
    axes.minorticks_off()
    axes.set_xlabel("fires at one token in …")


def _one_in(rate: float) -> str:
    every = round(1 / rate)
    return f"{every:,}" if every < 10_000 else f"{every // 1000:,}k" if every < 1_000_000 else f"{every // 1_000_000}M"
