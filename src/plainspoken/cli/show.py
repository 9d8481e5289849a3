"""What the terminal shows: progress bars, news, warnings, and the closing table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from plainspoken.pipeline.progress import Advance, Progress

OUT = Console()
ERR = Console(stderr=True)


@contextmanager
def progress_on_terminal(quiet: bool) -> Iterator[Progress]:
    """A Progress that draws bars on the error stream while the block lasts; quiet: warnings only."""

    def warn(message: str) -> None:
        ERR.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True, highlight=False)

    if quiet:
        yield Progress(warn=warn)
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=ERR, transient=True) as bars:

        def say(message: str) -> None:
            ERR.print(f"[dim]·[/] {escape(message)}", soft_wrap=True, highlight=False)

        @contextmanager
        def track(label: str, total: int | None) -> Iterator[Advance]:
            task = bars.add_task(escape(label), total=total)
            try:
                yield lambda done: bars.advance(task, done)
            finally:
                bars.remove_task(task)

        yield Progress(say=say, warn=warn, track=track)


def show_error(message: str) -> None:
    """One error, in red, on the error stream."""
    ERR.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)


def show_conditions(records: Sequence[Mapping[str, Any]]) -> None:
    """The conditions with everything rewritten, and the baselines, one row each."""
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("site")
    table.add_column("condition")
    for name in ("loss (nats/token)", "95 %", "recovered", "95 %", "over mean", "KL", "top-1"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        table.add_row(*_cells(record), style="bold" if record["condition"].startswith("rewritten") else None)
    OUT.print(table)


def _cells(record: Mapping[str, Any]) -> list[str]:
    return [
        escape(record["site"]),
        escape(record["condition"]),
        _figure(record, "ce", "{:.3f}"),
        _range(record, "ce", "{:.3f}"),
        _figure(record, "recovered", "{:.1%}"),
        _range(record, "recovered", "{:.1%}"),
        _figure(record, "recovered_over_mean", "{:.1%}"),
        _figure(record, "kl", "{:.3f}"),
        _figure(record, "top1", "{:.1%}"),
    ]


def _figure(record: Mapping[str, Any], name: str, form: str) -> str:
    value = record.get(name)
    return "" if value is None else form.format(value)


def _range(record: Mapping[str, Any], name: str, form: str) -> str:
    low, high = _figure(record, f"{name}_low", form), _figure(record, f"{name}_high", form)
    return f"{low} … {high}" if low and high else ""


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], shorten: Callable[[str], bool] | None = None
) -> None:
    """A plain table; numbers (columns whose name `shorten` does not pick) stand on the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        text = shorten is not None and shorten(name)
        table.add_column(name, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    OUT.print(table)
