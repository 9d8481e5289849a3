"""A page of a behaviour: what ablating its circuit does beside random latents, and how few latents suffice."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from plainspoken.circuits.lines import quoted
from plainspoken.evaluate.kept import ENDING, kept_points
from plainspoken.language.counted import counted
from plainspoken.report import numbers
from plainspoken.report.figures import kept_picture
from plainspoken.report.interval import Interval
from plainspoken.report.pages import rendered

CHANGES = (
    ("original", "the model as it is"),
    ("change", "change without the circuit’s latents"),
    ("change_random", "change without random latents like them, mean of the draws"),
    ("over_random", "the first change less the second"),
)
"""Fields of an ablation's record, in the order in which they are told, and what they are called."""
_FEW = 3


def render_behaviour(record: Mapping[str, Any]) -> str:
    """The page as text; the same record gives the same bytes. `record`: as docs/behaviours.md has it."""
    ablation, contrast = record["ablation"], record["contrast"]
    columns = [ablation] if contrast is None else [ablation, contrast, record["apart"]]
    return rendered(
        "behaviour.html",
        filters={"drawn": Markup},  # by matplotlib, which escapes every text it writes
        title=f"A behaviour: {asked(record)}",
        examples=[[f"{name}: {quoted(text)}" for name, text in pair.items()] for pair in record["examples"]],
        prompts=counted(ablation["prompts"], "other prompt"),
        finding=counted(record["finding"]["prompts"], "prompt"),
        warning=record["warning"],
        latents=counted(ablation["latents"], "latent"),
        firing=counted(record["finding"]["firing_latents"], "latent"),
        draws=counted(len(ablation["draws"]), "draw"),
        furthest=numbers.fixed(max(ablation["draws"], key=abs), 2, True),
        heads=["after the prompt", *(["after its contrast", "the first less the second"] if contrast else [])],
        rows=[(name, *(measured(column, field) for column in columns)) for field, name in CHANGES],
        picture=kept_picture(record["kept"], "behaviour-kept"),
        kept=_kept(record["kept"]),
        ending=ENDING,
        circuit=[_latent(each) for each in record["latents"]],
        about=[(k, v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) for k, v in record["about"].items()],
    )


def asked(record: Mapping[str, Any]) -> str:
    """'"self" rather than "data", "file" or 6 others'."""
    return f"{_some(record['wanted'], 'and')} rather than {_some(record['other'], 'or')}"


def _some(words: Sequence[str], last: str) -> str:
    """All of a few words, two of many and how many others."""
    shown = [quoted(word) for word in words[: _FEW if len(words) <= _FEW else _FEW - 1]]
    if len(words) > len(shown):
        shown.append(counted(len(words) - len(shown), "other", "others"))
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def measured(record: Mapping[str, Any], name: str, decimals: int = 2, signed: bool = True) -> str:
    """A figure of a record with its interval: +7.88 [+7.50, +8.26]."""
    found = _interval(record, name)
    if found is None:
        return numbers.UNDEFINED
    value = numbers.fixed(found.value, decimals, signed)
    if found.bounds is None:
        return f"{value} {numbers.UNBOUNDED}"
    return f"{value} [{', '.join(numbers.fixed(bound, decimals, signed) for bound in found.bounds)}]"


def _latent(each: Mapping[str, Any]) -> tuple[str, ...]:
    """(latent, contribution, share of prompts in which it fires, fidelity, sentence)."""
    fidelity = numbers.fixed(each["fidelity"], 2)
    contribution = numbers.fixed(each["contribution"], 2, True)
    return each["latent"], contribution, numbers.percent(each["fires_in"]), fidelity, each["text"] or "(no sentence)"


def _kept(curve: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (numbers.count(number), *("" if point is None else recovered(point) for point in points))
        for number, points in kept_points(curve)
    ]


def recovered(point: Mapping[str, Any]) -> str:
    """What keeping so many recovers, with its interval: 53% [49, 57]."""
    return numbers.percent_interval(_interval(point, "recovered"))


def _interval(record: Mapping[str, Any], name: str) -> Interval | None:
    """Without bounds where too few of the draws have a value."""
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    return None if value is None else Interval(value, low, high)
