"""Settings that have moved: a run folder that was made before goes on, who writes the old name is told the new one."""

from collections.abc import Mapping
from typing import Any

_SECTIONS = ("explain", "score", "simulate")
_USUAL = {"concurrency": 16, "per_minute": 0.0}
"""Of each language model once, of the run now (`limits`), and what they were where nobody set them."""


def moved(dotted: str) -> str | None:
    """The name that an old one has now; None where it is none."""
    section, _, name = dotted.partition(".llm.")
    return f"limits.{name}" if section in _SECTIONS and name in _USUAL else None


def brought_up(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run folder in today's names. Of the paces that its models had, the slowest that was set."""
    out, found = dict(tree), {name: list[Any]() for name in _USUAL}
    for section in _SECTIONS:
        llm = (out.get(section) or {}).get("llm") if isinstance(out.get(section), Mapping) else None
        if isinstance(llm, Mapping):
            for name, usual in _USUAL.items():
                if llm.get(name, usual) != usual:
                    found[name].append(llm[name])
            out[section] = {**out[section], "llm": {name: value for name, value in llm.items() if name not in _USUAL}}
    set_ = {name: min(values) for name, values in found.items() if values}
    return {**out, "limits": {**set_, **(out.get("limits") or {})}} if set_ else out
