"""What all figures share: two sizes, margins in inches, labels that keep clear of each other."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from plainspoken.report import numbers, svg
from plainspoken.report.interval import Interval


@dataclass(frozen=True)
class Frame:
    """What a drawing must fit: width in inches, type size in points."""

    name: str
    width: float
    size: float

    @property
    def narrow(self) -> bool:
        """Whether the drawing is for a small screen."""
        return self.name == "narrow"


WIDE, NARROW = Frame("wide", 7.2, 8.5), Frame("narrow", 3.5, 8.5)


@dataclass(frozen=True)
class Picture:
    """One figure of the page: what kind it is, both drawings as inline SVG, and the caption beneath."""

    name: str
    wide: str
    narrow: str
    caption: str


def picture(key: str, label: str, caption: str, draw: Callable[[Frame], Figure]) -> Picture:
    """Draw both sizes. `label` is read out in the figure's place; `key`, unique on the page, ends in the kind."""
    drawings: list[str] = []
    for frame in (WIDE, NARROW):
        style: dict[Any, Any] = {**svg.STYLE, "font.size": frame.size}
        with rc_context(style):
            drawings.append(svg.inline_svg(draw(frame), f"{key}-{frame.name}", label))
    return Picture(key.rpartition("-")[2], drawings[0], drawings[1], caption)


def new_axes(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes with margins in inches: a layout that does not depend on the length of any text."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    axes.tick_params(length=2.5, width=0.8)
    axes.set_axisbelow(True)
    return axes


def percent_axis(axis: Axis, ticks: int = 5) -> None:
    """Ticks in percent, at round numbers."""
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: numbers.percent(value)))


def certainty(found: Iterable[Interval | None]) -> str:
    """What a caption says of the intervals: where one document is all there is, there are none."""
    sure = any(interval.bounds is not None for interval in found if interval is not None)
    return "with 95% intervals over documents" if sure else "of a single document and so without intervals"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions as near as may be to the wanted ones, in their order, at least `gap` apart, within [low, high].

    Neighbours that collide become one block around the mean of what its members want (pool adjacent violators); what
    leaves at an edge is pushed back. Where all do not fit, the last leave at `high`.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[tuple[float, int]] = []  # where a block wants its first member, how many members it has
    for index in order:
        first, members = wanted[index], 1
        while blocks and first < blocks[-1][0] + gap * blocks[-1][1]:
            before, others = blocks.pop()
            first = (before * others + (first - gap * others) * members) / (others + members)
            members += others
        blocks.append((first, members))
    places = [first + gap * step for first, members in blocks for step in range(members)]
    for place in reversed(range(len(places))):
        places[place] = min(places[place], places[place + 1] - gap if place + 1 < len(places) else high)
    for place in range(len(places)):
        places[place] = max(places[place], places[place - 1] + gap if place else low)
    placed = dict(zip(order, places, strict=True))
    return [placed[index] for index in range(len(wanted))]


def label_levels(axes: Axes, levels: Sequence[tuple[str, float]], frame: Frame) -> None:
    """Dotted horizontal lines named in the right margin, the names moved apart where they crowd, each tied to its line.

    Call it once the limits of the axes are set.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes of a figure"
    low, high = axes.get_ylim()
    height = axes.bbox.height / figure.dpi * 72
    gap = frame.size * 1.25 / height * (high - low)
    places = spread([level for _, level in levels], gap, low + gap / 2, high - gap / 2)
    tie = {"arrowstyle": "-", "color": svg.LINE, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 0}
    for (name, level), place in zip(levels, places, strict=True):
        axes.axhline(level, color=svg.MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        axes.annotate(
            name, xy=(1.0, level), xytext=(1.05, place), xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"), va="center", color=svg.MUTED, annotation_clip=False, arrowprops=tie,
        )  # fmt: skip
