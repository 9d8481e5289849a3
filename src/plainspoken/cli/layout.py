"""Rows of figures on terminals of any width: no name, figure or interval is ever torn.

Where there is room an interval stands beside its figure; else beneath it; and where that is too wide as well the
columns go on in further lines, each under its title. A long name then stands above its figures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Cell = tuple[str, str]
"""A figure and its interval, or a title's two lines; either may be empty."""
_NARROW = 4  # a name of at most a quarter of the width stands beside figures that go on in further lines


@dataclass(frozen=True)
class Row:
    """A name, of one line or two, and a cell a column."""

    name: Cell
    cells: Sequence[Cell]

    @staticmethod
    def of(name: str, cells: Sequence[str]) -> "Row":
        """One whose figures have no intervals."""
        return Row((name, ""), [(cell, "") for cell in cells])


def laid_out(head: Row, rows: Sequence[Row], width: int, *, abreast: bool = True) -> list[list[str]]:
    """The lines of the head, and of each row, none longer than `width` unless a single name or figure is.

    `abreast`: intervals stand beside their figures where that fits.
    """
    every = [head, *rows]
    if abreast and _whole(wide := _abreast(every)) <= width:
        every = wide
    widths, margin = _widths(every), _margin(every)
    beside = _whole(every) <= width or margin <= width // _NARROW
    lots = list(_lots(widths, width - margin if beside else width))
    return [list(_lines(row, widths, lots, margin if beside else None)) for row in every]


def _abreast(rows: Sequence[Row]) -> list[Row]:
    """The same with every interval in a column of its own."""
    columns = list(zip(*(row.cells for row in rows), strict=True))
    split = [any(interval for _, interval in column) for column in columns]
    return [
        Row(
            row.name,
            [(part, "") for cell, two in zip(row.cells, split, strict=True) for part in (cell if two else cell[:1])],
        )
        for row in rows
    ]


def _widths(rows: Sequence[Row]) -> list[int]:
    return [max(len(line) for cell in column for line in cell) for column in zip(*(r.cells for r in rows), strict=True)]


def _margin(rows: Sequence[Row]) -> int:
    return max(len(line) for row in rows for line in row.name) + 1


def _whole(rows: Sequence[Row]) -> int:
    """The width with everything of a row side by side."""
    widths = _widths(rows)
    return _margin(rows) + sum(widths) + len(widths) - 1


def _lots(widths: Sequence[int], room: int) -> Iterator[slice]:
    """As many columns as there is room for, then as many again, to the end; at least one each time."""
    start, used = 0, 0
    for place, width in enumerate(widths):
        if place > start and used + 1 + width > room:
            yield slice(start, place)
            start, used = place, 0
        used += width + (place > start)
    yield slice(start, len(widths))


def _lines(row: Row, widths: Sequence[int], lots: Sequence[slice], margin: int | None) -> Iterator[str]:
    """`margin`: how wide names are that stand beside their figures; None: they stand above."""
    names = ["", ""] if margin is None else list(row.name)
    if margin is None and any(row.name):
        yield ", ".join(filter(None, row.name))
    for place, lot in enumerate(lots):
        for of_line in (0, 1):
            name = names[of_line] if place == 0 else ""
            figures = (cell[of_line].rjust(width) for cell, width in zip(row.cells[lot], widths[lot], strict=True))
            line = (name.ljust(margin or 0) + " ".join(figures)).rstrip()
            if line:
                yield line
