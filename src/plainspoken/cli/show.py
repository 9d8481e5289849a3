"""What the terminal shows: progress bars, news, warnings, and the closing table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
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
from rich.text import Text

from plainspoken.cli.track import progress_in_lines
from plainspoken.pipeline import CoderResult, Comparison
from plainspoken.pipeline.progress import Advance, Progress

if TYPE_CHECKING:
    from plainspoken.pipeline.convert import Converted
else:  # what converts brings torch
    Converted = Any

Pair = tuple[str, str]
"""What stands in a table's two lines a row."""
UNBOUNDED = "–"
"""In the place of an interval where too few documents, or too few of the draws, have one."""
OUT = Console()
ERR = Console(stderr=True)


@contextmanager
def progress_on_terminal(quiet: bool) -> Iterator[Progress]:
    """A Progress on the error stream while the block lasts: bars, or lines where that is no terminal.

    quiet: warnings only.
    """

    def warn(message: str) -> None:
        ERR.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True, highlight=False)

    def say(message: str) -> None:
        ERR.print(f"[dim]·[/] {escape(message)}", soft_wrap=True, highlight=False)

    if quiet:
        yield Progress(warn=warn)
        return
    if not ERR.is_terminal:
        with progress_in_lines(say, warn) as progress:
            yield progress
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=ERR, transient=True) as bars:

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
    """For each site the conditions with everything rewritten, and the baselines: one row each."""
    for site, group in groupby(records, key=lambda record: record["site"]):
        rows = list(group)
        first, name = rows[0], "all sites together" if site == "all" else site
        words = f"mean {first['words_mean']:.0f} words" if first["explained"] else "no words"
        told = f"{first['explained']:,} of {first['latents']:,} latents in words, {words}"
        OUT.print(f"\n[bold]{escape(name)}[/]: {told}", highlight=False)
        show_few(first)
        show_incomplete(rows)
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("nats a token", overflow="fold")  # where there is no room names break, never figures
        for column in ("loss", "[95 %]", "recovered", "[95 %]", "over mean", "KL"):
            table.add_column(Text(column), justify="right", no_wrap=True)
        for record in rows:
            style = "bold" if record["condition"] == "rewritten" and not record.get("withheld") else None
            table.add_row(*(Text(cell) for cell in _cells(record)), style=style)
        OUT.print(table)
        unsure = [record.get("recovered") is not None and not _is_sure(record, "recovered") for record in rows[1:]]
        if unsure and all(unsure):
            OUT.print("[dim]recovered is left out: zeroing the latents costs no loss that these documents can tell[/]")


def show_few(record: Mapping[str, Any]) -> None:
    """In red above a site's table, where few of its latents have a sentence; plainly, where no more were asked for."""
    latents, explained, firings = record["latents"], record["explained"], record.get("firings")
    share = f", with {record['firings_explained'] / firings:.1%} of the firings," if firings else ""
    if record.get("mostly_explained", True):
        return
    told = f"{explained:,} of {latents:,} latents ({explained / latents:.1%}){share} have a sentence"
    rest = "the others stand at 0, and the figures are of all of them together"
    if drawn := record.get("not_chosen"):
        told = f"[bold]a sample[/]: {latents - drawn:,} latents were tried (explain.latents); {told}"
    else:
        told = f"[bold red]few sentences[/]: only {told}"
    OUT.print(f"{told}; {rest}", highlight=False, soft_wrap=True)


def show_incomplete(records: Sequence[Mapping[str, Any]]) -> None:
    """In red above a site's table, where its simulator did not answer all that it was asked."""
    lacking = [record for record in records if _is_incomplete(record)]
    if lacking:
        told = ", ".join(f"{record['condition']} {_answered(record)}" for record in lacking)
        OUT.print(
            f"[bold red]incomplete (*)[/]: of the (latent, token) pairs asked about were answered: {told}; the others "
            "are put at 0, or lack in the calibration",
            highlight=False,
            soft_wrap=True,
        )
    for record in records:
        if record["condition"] == "rewritten" and record.get("withheld"):
            OUT.print(f"verdict {record['withheld']}", markup=False, highlight=False, style="red", soft_wrap=True)


def _is_incomplete(record: Mapping[str, Any]) -> bool:
    shares = record.get("coverage"), record.get("coverage_calibrate")
    return any(share is not None and share < 1 for share in shares)


def _answered(record: Mapping[str, Any]) -> str:
    """Of the pairs to rewrite, and of those to calibrate on where some of them lack."""
    coverage, calibrated = record.get("coverage"), record.get("coverage_calibrate")
    told = "none asked" if coverage is None else "all" if coverage >= 1 else _floored(coverage)
    return told if calibrated is None or calibrated >= 1 else f"{told} (to calibrate on: {_floored(calibrated)})"


def _floored(share: float) -> str:
    """A share below 1 as a percentage below 100."""
    return f"{math.floor(1e4 * share) / 100:.2f} %"


def show_coders(coders: Sequence[CoderResult]) -> None:
    """One row a site: what its coder keeps, means over their 95 % intervals; and where the figures lie."""
    if coders:
        OUT.print(f"\n[bold]coders[/] {_measured_on(coders[0].record)}", highlight=False)
        _coder_table([((coder.site, ""), coder.record) for coder in coders])
    for coder in coders:
        OUT.print(f"figure: {coder.picture}", soft_wrap=True, highlight=False)


def show_comparison(comparison: Comparison) -> None:
    """One row a coder, the differences at equal k, what is compared, and where the figure lies."""
    head = f"\n[bold]{escape(comparison.site)}[/]: {len(comparison.points)} coders"
    OUT.print(f"{head} {_measured_on(comparison.points[0])}", highlight=False)
    _coder_table([((point["kind"], f"k = {point['k']}"), point) for point in comparison.points])
    if comparison.differences:
        OUT.print(
            "\n[bold]at equal k[/]: difference in loss (nats a token) and in FVU, paired by document", highlight=False
        )
    for apart in comparison.differences:
        figures = (
            f"{_figure(apart, name, '{:+.4f}')} {_range(apart, name, '{:+.4f}')}" for name in ("increase", "fvu")
        )
        line = f"{apart['kind']} - {apart['against']}, k = {apart['k']}: {', FVU '.join(figures)}"
        OUT.print(line, markup=False, highlight=False)
    OUT.print(f"\n{comparison.note}", markup=False, highlight=False)
    OUT.print(f"figure: {', '.join(map(str, comparison.pictures))}", soft_wrap=True, highlight=False)


_CODER_COLUMNS = (
    (("", "FVU"), "fvu", "{:.3f}"),
    (("", "L0"), "l0", "{:.1f}"),
    (("", "dead"), "dead", "{:.1%}"),
    (("loss over", "original"), "increase", "{:+.3f}"),
    (("", "KL"), "kl", "{:.3f}"),
    (("recovered", "over zero"), "recovered_zero", "{:.2f}"),
    (("recovered", "over mean"), "recovered_mean", "{:.2f}"),
)
_WITH_RANGE = ("fvu", "increase", "recovered_zero", "recovered_mean")


def _measured_on(record: Mapping[str, Any]) -> str:
    tokens, documents = f"{record['tokens']:,}", f"{record['documents']:,}"
    loss = f"the model's own loss is {record['ce_original']:.3f} nats a token"
    return f"on {tokens} {record.get('part', 'evaluate')} tokens of {documents} documents, where {loss}"


def _coder_table(rows: Sequence[tuple[Pair, Mapping[str, Any]]]) -> None:
    """Two lines a coder: figures over their ranges, its name before them; above, where the terminal is too narrow."""
    head = [title for title, _, _ in _CODER_COLUMNS]
    body = [[_figure_and_range(record, *column[1:]) for column in _CODER_COLUMNS] for _, record in rows]
    widths = [max(len(part) for cell in column for part in cell) for column in zip(head, *body, strict=True)]
    margin = max((len(part) for name, _ in rows for part in name), default=0) + 1
    beside = margin + sum(widths) + len(widths) - 1 <= OUT.width

    def show(name: Pair, cells: Sequence[Pair], style: str | None = None) -> None:
        lines = [] if beside else [", ".join(filter(None, name))]
        for start, *parts in zip(name, *cells, strict=True):
            figures = " ".join(part.rjust(width) for part, width in zip(parts, widths, strict=True))
            lines.append((start.ljust(margin) if beside else "") + figures)
        for line in filter(str.strip, lines):
            OUT.print(line.rstrip(), markup=False, highlight=False, style=style, soft_wrap=True)

    show(("", ""), head, "dim")
    for (name, _), cells in zip(rows, body, strict=True):
        show(name, cells)


def _figure_and_range(record: Mapping[str, Any], name: str, form: str) -> Pair:
    low, high = (_figure(record, f"{name}_{end}", form.replace("+", "")) for end in ("low", "high"))
    figure = _figure(record, name, form)
    between = (f"{low}…{high}" if low and high else UNBOUNDED) if figure and name in _WITH_RANGE else ""
    return figure or "undefined", between


def show_converted(done: Converted) -> None:
    """What a coder is and where it went, in two lines; in a third what it became, if it did not stay what it was."""
    spec = done.spec
    k = "" if spec.k is None else f" (k = {spec.k})"
    skip = ", with a skip connection" if spec.skip else ""
    became = f"\n    written as {done.becomes}: the same output at every token" if done.becomes else ""
    OUT.print(
        f"{done.site.module}: {spec.kind}, {spec.activation}{k}, {spec.latents:,} latents, "
        f"{spec.d_in:,} -> {spec.d_out:,}{skip}\n    {done.source} ({done.format}) -> {done.target}{became}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def show_edits(edits: Sequence[Mapping[str, Any]]) -> None:
    """What changed sentences did to the loss, each and together."""
    if edits:
        OUT.print(
            "\n[bold]edited sentences[/]: loss with the change minus loss without it, nats a token", highlight=False
        )
    for edit in edits:
        which = "all edits" if edit["latent"] is None else f"latent {edit['latent']}"
        site = "all sites" if edit["site"] == "all" else edit["site"]
        line = f"{site}, {which}: {_figure(edit, 'effect', '{:+.5f}')} {_range(edit, 'effect', '{:+.5f}')}"
        lacks = f"; verdict {edit['withheld']}" if edit.get("withheld") else ""
        OUT.print(f"{line}{lacks}", markup=False, highlight=False, soft_wrap=True)


def _cells(record: Mapping[str, Any]) -> list[str]:
    return [
        record["condition"] + " *" * _is_incomplete(record),
        _figure(record, "ce", "{:.3f}"),
        _range(record, "ce", "{:.3f}"),
        _figure(record, "recovered", "{:.2f}") if _is_sure(record, "recovered") else "",
        _range(record, "recovered", "{:.2f}") if _is_sure(record, "recovered") else "",
        _figure(record, "recovered_over_mean", "{:.2f}") if _is_sure(record, "recovered_over_mean") else "",
        _figure(record, "kl", "{:.3f}"),
    ]


def _is_sure(record: Mapping[str, Any], name: str) -> bool:
    """Whether a share of the gap means anything: not of the original, nor where too many draws have no gap.

    Of a single document, which has no bounds, it stays.
    """
    return record["condition"] != "original" and (
        record.get(f"{name}_low") is not None or record.get("documents", 2) < 2
    )


def _figure(record: Mapping[str, Any], name: str, form: str) -> str:
    value = record.get(name)
    return "" if value is None else form.format(value)


def _range(record: Mapping[str, Any], name: str, form: str) -> str:
    low, high = _figure(record, f"{name}_low", form), _figure(record, f"{name}_high", form)
    if not _figure(record, name, form):
        return ""
    return f"[{low}, {high}]" if low and high else UNBOUNDED


def show_scores(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Each latent's numbers under the names of the columns, and below them its sentence: the last cell of a row."""
    widths = [max(len(name), *(len(row[i]) for row in rows), 0) for i, name in enumerate(columns[:-1])]
    OUT.print(f"[bold]{escape(title)}[/]", highlight=False)
    OUT.print("  ".join(name.rjust(width) for name, width in zip(columns, widths, strict=False)), style="bold")
    for *numbers, text in rows:
        line = "  ".join(cell.rjust(width) for cell, width in zip(numbers, widths, strict=True))
        OUT.print(line, markup=False, highlight=False)
        OUT.print(Padding(Text(text, style="dim"), (0, 0, 0, 4)))
