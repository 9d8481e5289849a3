"""One self-contained HTML file from a ReportData: figures drawn, numbers formatted, everything dynamic escaped."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from plainspoken.language.counted import counted
from plainspoken.report import numbers, select
from plainspoken.report.data import FrontierPoint, Measured, ReportData, SiteReport
from plainspoken.report.figures import (
    Picture,
    coder_picture,
    conditions_picture,
    frontier_picture,
    loss_picture,
    scores_picture,
    sites_picture,
)
from plainspoken.report.figures.losses import order_name
from plainspoken.report.headline import headline
from plainspoken.report.latents import Card
from plainspoken.report.pages import rendered
from plainspoken.report.tokens import cells, strongest
from plainspoken.store import write_text

# More failures than this are counted on the page and stand in the run directory.
MOST_FAILURES = 100

# What stands between quotation marks, escaped ones included; a strength at the beginning of a clause.
_QUOTED = re.compile(r"(“(?:[^\\“”]|\\.)*”)", re.DOTALL)
_STRENGTH = re.compile(r"(?<=^Fires at )\d(?= on )|(?<=; )\d(?= on )")


@dataclass(frozen=True)
class SiteView:
    """A site with its figures drawn and its conditions in the order of the page."""

    site: SiteReport
    key: str
    title: str
    conditions: Picture | None
    losses: Picture | None
    frontier: Picture | None
    scores: Picture | None
    coder: Picture | None
    short: tuple[Measured, ...]
    increase: bool
    complete: bool
    quantiles: tuple[tuple[str, tuple[str, ...]], ...]
    summary: str


def render_report(data: ReportData) -> str:
    """The page as text; the same data give the same bytes. What is no character (a stray surrogate) shows escaped."""
    views = [_view(site, f"s{place}", site.site) for place, site in enumerate(data.sites)]
    joint = _view(data.joint, "all", "All sites together") if data.joint is not None else None
    return rendered(
        "report.html",
        filters=_FILTERS,
        data=data,
        headline=headline(data),
        joint=joint,
        views=views,
        sites_picture=sites_picture(data, "sites"),
        meaning=select.meaning,
        most_failures=MOST_FAILURES,
    )


def write_report(data: ReportData, path: Path) -> None:
    """Write the page, atomically. Raises StoreError when it cannot be written."""
    write_text(path, render_report(data))


def _view(site: SiteReport, key: str, title: str) -> SiteView:
    short = select.whole_rows(site)
    return SiteView(
        site=site,
        key=key,
        title=title,
        conditions=conditions_picture(site, f"{key}-conditions"),
        losses=loss_picture(site, f"{key}-losses"),
        frontier=frontier_picture(site, f"{key}-frontier"),
        scores=scores_picture(site, f"{key}-scores"),
        coder=coder_picture(site.coder, f"{key}-coder") if site.coder is not None else None,
        short=short,
        increase=any(row.increase is not None for row in short),
        complete=all(row.complete for row in site.conditions),
        quantiles=_quantiles(site),
        summary=_summary(site),
    )


def _summary(site: SiteReport) -> str:
    rewritten = select.whole(site, "rewritten")
    share = numbers.percent_interval(rewritten.recovered) if rewritten is not None else numbers.UNDEFINED
    if rewritten is not None and not rewritten.complete:
        share += f" (incomplete: {answered(rewritten)})"
    words = "no words"
    if site.words_mean is not None and site.words_max is not None:
        words = f"mean {counted(round(site.words_mean), 'word')}, at most {numbers.count(site.words_max)}"
    return f"recovered {share} · {words} · {numbers.count(site.explained)} of {numbers.count(site.latents)} explained"


def answered(row: Measured | FrontierPoint) -> str:
    """The shares of the pairs that were answered: of those to rewrite, and of those to calibrate on where some lack."""
    told = [] if row.coverage is None else [f"{numbers.percent(row.coverage, 1)} answered"]
    if row.calibrated is not None and row.calibrated < 1:
        told.append(f"{numbers.percent(row.calibrated, 1)} of those to calibrate on")
    return ", ".join(told)


def _quantiles(site: SiteReport) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each score at five quantiles of the latents for which it is defined."""
    columns: tuple[tuple[str, list[float | None], int], ...] = (
        ("correlation", [score.correlation for score in site.scores], 3),
        ("sensitivity", [score.sensitivity for score in site.scores], 3),
        ("specificity", [score.specificity for score in site.scores], 4),
        ("AUPRC", [score.auprc for score in site.scores], 3),
        ("firing rate", [score.rate for score in site.scores], 5),
    )
    found: list[tuple[str, tuple[str, ...]]] = []
    for name, values, decimals in columns:
        defined = [value for value in values if value is not None]
        if defined:
            at = np.quantile(defined, (0.05, 0.25, 0.5, 0.75, 0.95))
            found.append((name, tuple(numbers.fixed(float(value), decimals) for value in at)))
    return tuple(found)


def _sentence(text: str) -> Markup:
    """An explanation with what it quotes, and the strengths that begin its clauses, set apart from the prose."""
    parts: list[Markup] = []
    for place, part in enumerate(_QUOTED.split(text)):
        shown = str(escape(part))
        parts.append(Markup(f'<span class="q">{shown}</span>' if place % 2 else _STRENGTH.sub(r"<b>\g<0></b>", shown)))
    return Markup("").join(parts)


def _by_rank(cards: Sequence[Card]) -> list[tuple[str, list[Card]]]:
    return [(rank, list(group)) for rank, group in groupby(cards, key=lambda card: card.rank)]


def _command(text: str) -> Markup:
    """A command that breaks between its options rather than within them."""
    first, *options = text.split(" --")
    return Markup(" ").join([escape(first), *(Markup('<span class="option">--{}</span>').format(o) for o in options)])


def _figures_bold(text: str) -> Markup:
    """A sentence with its percentages and their intervals set in bold and kept on one line."""
    return Markup(re.sub(r"[−+]?[\d.,]+%( \[[^\]]*\])?", r'<strong class="figure">\g<0></strong>', str(escape(text))))


_FILTERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "count": numbers.count,
        "counted": counted,
        "fixed": numbers.fixed,
        "nats": numbers.nats,
        "nats_range": numbers.nats_range,
        "percent": numbers.percent,
        "percent_value": numbers.percent_value,
        "percent_range": numbers.percent_range,
        "percent_interval": numbers.percent_interval,
        "small_nats": numbers.small_nats,
        "score": numbers.score,
        "rate": numbers.rate,
        "seconds": numbers.seconds,
        "total": lambda stages: sum(spent for _, spent in stages),
        "order_name": order_name,
        "answered": answered,
        "cells": cells,
        "strongest": strongest,
        "by_rank": _by_rank,
        "sentence": _sentence,
        "figures_bold": _figures_bold,
        "command": _command,
        # Drawn by matplotlib, which escapes every text it writes.
        "drawn": Markup,
    }
)
