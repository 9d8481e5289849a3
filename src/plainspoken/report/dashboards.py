"""One self-contained HTML page of all latents of a site: data in it as JSON, drawn by a small script when looked at.

Nothing is fetched, and nothing that stands in the data is ever markup: the script makes elements and sets their text.
The page's policy lets the browser run that one script, known by its hash, and no other.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from plainspoken.circuits.dashboard import Connections
from plainspoken.circuits.dashboard_file import Dashboards
from plainspoken.circuits.vocabulary import TokenEffects
from plainspoken.language.counted import counted
from plainspoken.latents.dashboard import BandExamples
from plainspoken.report import numbers
from plainspoken.report.pages import as_json, rendered
from plainspoken.report.tokens import ends, unfinished, visible
from plainspoken.store import write_text

DIGITS = 4
"""Significant digits of what the page shows; the file has all of them."""


def render_dashboards(dashboards: Dashboards) -> str:
    """The page as text; the same dashboards give the same bytes."""
    statistics = dashboards.activity.statistics
    return rendered(
        "dashboards.html",
        script="dashboards.js",
        about=dashboards.about,
        latents=counted(dashboards.latents, "latent"),
        tokens=counted(dashboards.about.tokens, "token"),
        silent=numbers.count(int((statistics.firings == 0).sum())),
        explained=numbers.count(len(dashboards.explanations)),
        scored=bool(dashboards.fidelity),
        data=as_json(_data(dashboards)),
    )


def write_dashboards_page(dashboards: Dashboards, path: Path) -> None:
    """Write the page, atomically. Raises StoreError when it cannot be written."""
    write_text(path, render_dashboards(dashboards))


def _data(dashboards: Dashboards) -> dict[str, Any]:
    activity, wiring, strongest = dashboards.activity, dashboards.wiring, dashboards.activity.strongest
    statistics, spelled = activity.statistics, _Spelled(dashboards)
    firing_mean = statistics.mean * statistics.tokens / np.maximum(statistics.firings, 1)
    found: dict[str, Any] = {
        "bands": dashboards.about.shown.bands,
        "site": dashboards.about.site,
        "documents": list(dashboards.about.documents),
        "firings": statistics.firings.tolist(),
        "rate": _short(statistics.rate),
        "maximum": _short(statistics.maximum),
        "mean": _short(firing_mean),
        "mass": _short(statistics.mass),
        "scores": {name: _short(values) for name, values in dashboards.fidelity.items()},
        "histogram": activity.histogram.tolist(),
        "text": _each(dashboards, lambda e: e.text),
        "words": _each(dashboards, lambda e: e.words),
        "by": _each(dashboards, lambda e: e.explainer),
        "strongest": [] if strongest is None else _windows(strongest, dashboards.strongest_document, spelled),
        "examples": [shown[::-1] for shown in _windows(activity.examples, dashboards.document, spelled)],
        "sites": [] if wiring is None else list(wiring.sites),
        "effects": {},
        "connections": {},
    }
    if wiring is not None:
        for name in ("promoted", "suppressed", "exciting"):
            if (part := getattr(wiring, name)) is not None:
                found["effects"][name] = _effects(part, spelled)
        found["connections"] = {name: _connections(getattr(wiring, name)) for name in ("sources", "targets")}
    order = {cell: place for place, (cell, _) in enumerate(spelled.counts.most_common())}
    new = [order[cell] for cell in range(len(spelled.texts))]
    _renumber(found, new)
    found["cells"] = [text for _, text in sorted(zip(new, spelled.texts, strict=True))]
    return found


def _each(dashboards: Dashboards, of: Any) -> list[Any]:
    explained = dashboards.explanations
    return [of(explained[latent]) if latent in explained else None for latent in range(dashboards.latents)]


class _Spelled:
    """The texts of cells, each once, counted: those that occur most get the shortest numbers."""

    def __init__(self, dashboards: Dashboards) -> None:
        self.texts: list[str] = []
        self.counts: Counter[int] = Counter()
        self.pieces = dashboards.pieces
        self._known: dict[tuple[int, ...], int] = {}
        self._parts = {token for token, piece in self.pieces.items() if unfinished(piece)}

    def cell(self, tokens: tuple[int, ...]) -> int:
        """The number of the cell of some tokens that are shown together."""
        if tokens not in self._known:
            piece = b"".join(self.pieces[token] for token in tokens)
            self._known[tokens] = len(self.texts)
            # A special token spells nothing: it is shown by its number.
            self.texts.append(visible(piece) if piece else "".join(f"⟨{token}⟩" for token in tokens))
        number = self._known[tokens]
        self.counts[number] += 1
        return number

    def row(self, tokens: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
        """(cells, [cell's place, value, ...] where a value is above 0) of a stretch of text."""
        cells: list[int] = []
        fires: list[float] = []
        whole = self._parts.isdisjoint(tokens)
        first = 0
        for last in range(1, len(tokens) + 1) if whole else ends([self.pieces[token] for token in tokens]):
            value = max(values[first:last])
            if value > 0:
                fires += [len(cells), _digits(value)]
            cells.append(self.cell(tuple(tokens[first:last])))
            first = last
        return cells, fires


def _windows(
    windows: BandExamples, document: Int[np.ndarray, " windows"] | None, spelled: _Spelled
) -> list[list[list[Any]]]:
    """For each latent its windows in their order: [band, document, row, start, cells, fires]."""
    assert document is not None, "windows come with their documents"
    places, found = document.tolist(), []
    for latent, first in enumerate(windows.pointer[:-1].tolist()):
        found.append(
            [
                [e.quantile, places[first + i], e.row, e.start, *spelled.row(e.tokens.tolist(), e.values.tolist())]
                for i, e in enumerate(windows.of(latent))
            ]
        )
    return found


def _effects(part: TokenEffects, spelled: _Spelled) -> list[list[Any]]:
    return [
        [
            each
            for token, effect in zip(tokens, effects, strict=True)
            for each in (spelled.cell((token,)), _digits(effect))
        ]
        for tokens, effects in zip(part.token.tolist(), part.effect.tolist(), strict=True)
    ]


def _connections(part: Connections) -> list[list[Any]]:
    rows = zip(part.site.tolist(), part.latent.tolist(), part.weight.tolist(), strict=True)
    return [[x for s, i, w in zip(*row, strict=True) for x in (s, i, _digits(w))] for row in rows]


def _renumber(found: dict[str, Any], new: Sequence[int]) -> None:
    for windows in (*found["strongest"], *found["examples"]):
        for window in windows:
            window[4] = [new[cell] for cell in window[4]]
    for rows in found["effects"].values():
        for row in rows:
            row[::2] = [new[cell] for cell in row[::2]]


def _digits(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _short(values: Float[np.ndarray, " latents"] | Iterable[float]) -> list[float | None]:
    """In few digits; None for what is not defined."""
    return [_digits(value) if math.isfinite(value) else None for value in map(float, values)]
