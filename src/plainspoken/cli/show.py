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
from rich.text import Text

from plainspoken.cli.hub_warnings import hub_warnings_to
from plainspoken.cli.layout import Cell, Row, laid_out
from plainspoken.cli.track import progress_in_lines
from plainspoken.language.counted import agreeing, counted
from plainspoken.pipeline import CoderResult, Comparison
from plainspoken.pipeline.progress import Advance, Progress

if TYPE_CHECKING:
    from plainspoken.pipeline.convert import Converted
else:  # what converts brings torch
    Converted = Any

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
        with hub_warnings_to(warn):
            yield Progress(warn=warn)
        return
    if not ERR.is_terminal:
        with hub_warnings_to(warn), progress_in_lines(say, warn) as progress:
            yield progress
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with hub_warnings_to(warn), Bars(*columns, console=ERR, transient=True) as bars:

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
        words = f"mean {counted(round(first['words_mean']), 'word')}" if first["explained"] else "no words"
        told = f"{first['explained']:,} of {counted(first['latents'], 'latent')} in words, {words}"
        OUT.print(f"\n[bold]{escape(name)}[/]: {told}", highlight=False)
        show_few(first)
        show_incomplete(rows)
        show_rows(
            Row(("nats a token", ""), [("loss", "[95 %]"), ("recovered", "[95 %]"), ("over mean", ""), ("KL", "")]),
            [Row((record["condition"] + " *" * _is_incomplete(record), ""), _cells(record)) for record in rows],
            ["bold" if r["condition"] == "rewritten" and not r.get("withheld") else None for r in rows],
        )
        unsure = [record.get("recovered") is not None and not _is_sure(record, "recovered") for record in rows[1:]]
        if unsure and all(unsure):
            OUT.print("[dim]recovered is left out: zeroing the latents costs no loss that these documents can tell[/]")


def show_few(record: Mapping[str, Any]) -> None:
    """In red above a site's table, where few of its latents have a sentence; plainly, where no more were asked for."""
    latents, explained, firings = record["latents"], record["explained"], record.get("firings")
    share = f", with {record['firings_explained'] / firings:.1%} of the firings," if firings else ""
    if record.get("mostly_explained", True):
        return
    have = agreeing(explained, "has", "have")
    told = f"{explained:,} of {counted(latents, 'latent')} ({explained / latents:.1%}){share} {have} a sentence"
    rest = "the others stand at 0, and the figures are of all of them together"
    if drawn := record.get("not_chosen"):
        tried = counted(latents - drawn, "latent was", "latents were")
        told = f"[bold]a sample[/]: {tried} tried (explain.latents); {told}"
    else:
        told = f"[bold red]few sentences[/]: only {told}"
    OUT.print(f"{told}; {rest}", highlight=False)


def show_incomplete(records: Sequence[Mapping[str, Any]]) -> None:
    """In red above a site's table, where its simulator did not answer all that it was asked."""
    lacking = [record for record in records if _is_incomplete(record)]
    if lacking:
        told = ", ".join(f"{record['condition']} {_answered(record)}" for record in lacking)
        OUT.print(
            f"[bold red]incomplete (*)[/]: of the (latent, token) pairs asked about were answered: {told}; the others "
            "are put at 0, or lack in the calibration",
            highlight=False,
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
    head = f"\n[bold]{escape(comparison.site)}[/]: {counted(len(comparison.points), 'coder')}"
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
    documents = counted(record["documents"], "document")
    tokens = f"{record['tokens']:,} {record.get('part', 'evaluate')} {agreeing(record['tokens'], 'token')}"
    loss = f"the model's own loss is {record['ce_original']:.3f} nats a token"
    return f"on {tokens} of {documents}, where {loss}"


def _coder_table(rows: Sequence[tuple[Cell, Mapping[str, Any]]]) -> None:
    """Two lines a coder: figures over their ranges, its name before them; above, where the terminal is too narrow."""
    body = [Row(name, [_figure_and_range(record, *column[1:]) for column in _CODER_COLUMNS]) for name, record in rows]
    show_rows(Row(("", ""), [title for title, _, _ in _CODER_COLUMNS]), body, abreast=False)


def show_rows(head: Row, rows: Sequence[Row], styles: Sequence[str | None] = (), *, abreast: bool = True) -> None:
    """A table, as wide as the terminal leaves it; each row in its style."""
    lines = laid_out(head, rows, OUT.width, abreast=abreast)
    for told, style in zip(lines, ("dim", *(styles or [None] * len(rows))), strict=True):
        for line in told:
            OUT.print(line, markup=False, highlight=False, style=style, soft_wrap=True)


def _figure_and_range(record: Mapping[str, Any], name: str, form: str) -> Cell:
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
        f"{done.site.module}: {spec.kind}, {spec.activation}{k}, {counted(spec.latents, 'latent')}, "
        f"{spec.d_in:,} -> {spec.d_out:,}{skip}\n    {done.source} ({done.format}) -> {done.target}{became}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def show_edits(edits: Sequence[Mapping[str, Any]], in_prompt: int = 1) -> None:
    """What changed sentences did to the loss, each and together; up to `in_prompt` of them stood in one prompt."""
    if edits:
        OUT.print(
            "\n[bold]edited sentences[/]: loss with the change minus loss with the sentence as the explainer wrote it, "
            "nats a token",
            highlight=False,
        )
    if in_prompt > 1 and any(edit["latent"] is not None for edit in edits):
        OUT.print(
            f"up to {counted(in_prompt, 'latent')} stood in one prompt: the effect of one edit is of its own latent's "
            "levels alone; what it changed at the others of its prompt is in that of all edits",
            highlight=False,
        )
    for edit in edits:
        which = "all edits" if edit["latent"] is None else f"latent {edit['latent']}"
        site = "all sites" if edit["site"] == "all" else edit["site"]
        line = f"{site}, {which}: {_figure(edit, 'effect', '{:+.5f}')} {_range(edit, 'effect', '{:+.5f}')}"
        lacks = f"; verdict {edit['withheld']}" if edit.get("withheld") else ""
        same = ", as it was: it predicts the same of this text" if edit.get("effect") == 0 else ""
        OUT.print(f"{line}{same}{lacks}", markup=False, highlight=False, soft_wrap=True)


def _cells(record: Mapping[str, Any]) -> list[Cell]:
    share = _figure(record, "recovered", "{:.2f}"), _range(record, "recovered", "{:.2f}")
    return [
        (_figure(record, "ce", "{:.3f}"), _range(record, "ce", "{:.3f}")),
        share if _is_sure(record, "recovered") else ("", ""),
        (_figure(record, "recovered_over_mean", "{:.2f}") if _is_sure(record, "recovered_over_mean") else "", ""),
        (_figure(record, "kl", "{:.3f}"), ""),
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
    OUT.print(f"[bold]{escape(title)}[/]", highlight=False)
    lines = laid_out(
        Row.of(columns[0], columns[1:-1]), [Row.of(row[0], row[1:-1]) for row in rows], OUT.width, abreast=False
    )
    for line in lines[0]:
        OUT.print(line, style="bold", markup=False, highlight=False, soft_wrap=True)
    for told, row in zip(lines[1:], rows, strict=True):
        for line in told:
            OUT.print(line, markup=False, highlight=False, soft_wrap=True)
        OUT.print(Padding(Text(row[-1], style="dim"), (0, 0, 0, 4)))
