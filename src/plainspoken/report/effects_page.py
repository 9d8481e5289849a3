"""A page of what a graph predicts of ablations beside what they did: figure, table, every latent."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from plainspoken.circuits.beside import brackets_told, said_of
from plainspoken.circuits.effects import Effects
from plainspoken.circuits.effects_told import MEASURED, PREDICTED, compared, control_told, rounded, withheld
from plainspoken.circuits.lines import node_words, signed
from plainspoken.language.counted import counted
from plainspoken.report import numbers
from plainspoken.report.figures.effects import correlation, effects_picture
from plainspoken.report.pages import rendered
from plainspoken.store import write_text


def render_effects(effects: Effects, tokens: Sequence[str], about: Mapping[str, Any]) -> str:
    """The page as text; the same effects give the same bytes."""
    roots = [node_words(node, tokens) for node in effects.roots]
    return rendered(
        "effects.html",
        filters={"drawn": Markup},  # by matplotlib, which escapes every text it writes
        title=f"What is predicted of ablations, and what they do: {numbers.listing(roots)}",
        latents=counted(len(effects.measured.latents), "latent"),
        control=control_told(effects),
        picture=effects_picture(effects, "effects"),
        warnings=[why for why in (withheld(effects), rounded(effects)) if why is not None],
        rows=_rows(effects),
        several=len(roots) > 1,
        brackets=brackets_told(map(said_of, (*effects.measured.latents, *effects.control.latents)), about),
        groups=[("Of the graph", _latents(effects, tokens, True)), ("Control", _latents(effects, tokens, False))],
        about=[(name, v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) for name, v in about.items()],
    )


def write_effects_page(effects: Effects, tokens: Sequence[str], about: Mapping[str, Any], path: Path) -> None:
    """Write the page, atomically. Raises StoreError when it cannot be written."""
    write_text(path, render_effects(effects, tokens, about))


def _rows(effects: Effects) -> list[tuple[str, ...]]:
    return [
        (MEASURED[row.measured], correlation(row.direct), correlation(row.total), _size(row.size), _size(row.control))
        for row in compared(effects)
    ]


def _size(value: float | None) -> str:
    return numbers.UNDEFINED if value is None else signed(value).lstrip("+")


def _latents(effects: Effects, tokens: Sequence[str], inside: bool) -> list[tuple[str, ...]]:
    """(latent, its changes of each root: predicted where the graph has it, and measured), means over roots."""
    group = effects.measured if inside else effects.control
    columns = [getattr(effects, name) for name in PREDICTED] if inside else []
    columns += [getattr(group, name) for name in MEASURED]
    blank = ("",) * (len(PREDICTED) if not inside else 0)
    return [
        (node_words(node, tokens), *blank, *(signed(float(np.mean(column[row]))) for column in columns))
        for row, node in enumerate(group.latents)
    ]
