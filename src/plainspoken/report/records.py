"""The records of `evaluate/results.json` as typed conditions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from plainspoken.errors import StoreError
from plainspoken.report.data import Interval, Measured


def measured_by_site(conditions: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Measured, ...]]:
    """The list under `conditions`, by site in order of first mention (`all` is the joint rewrite).

    null, or a number that is not finite, is "not defined". Raises StoreError naming a record without a field it needs.
    """
    found: dict[str, list[Measured]] = {}
    for place, record in enumerate(conditions):
        try:
            measured = _measured(record)
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"evaluate/results.json: record {place} does not read as a condition ({error}); "
                "redo the evaluation with --force evaluate"
            ) from error
        found.setdefault(measured.site, []).append(measured)
    return {site: tuple(rows) for site, rows in found.items()}


def _measured(record: Mapping[str, Any]) -> Measured:
    ce = _interval(record, "ce")
    if ce is None:
        raise TypeError("`ce` is not a number")
    return Measured(
        site=str(record["site"]),
        condition=str(record["condition"]).partition("@")[0],
        fraction=_number(record["fraction"]),
        order=record["order"],
        calibrator=record["calibrator"],
        ce=ce,
        increase=_interval(record, "increase"),
        recovered=_interval(record, "recovered"),
        over_mean=_interval(record, "recovered_over_mean"),
        kl=_number(record["kl"]),
        top1=_number(record["top1"]),
        documents=int(record["documents"]),
        tokens=int(record["tokens"]),
        p_beats_zero=_number(record.get("p_beats_zero")),
        equivalent_to_zero=record.get("equivalent_to_zero"),
    )


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _interval(record: Mapping[str, Any], name: str) -> Interval | None:
    """A figure with its bounds; one that was recorded without bounds is its own interval."""
    value = _number(record.get(name))
    if value is None:
        return None
    low, high = _number(record.get(f"{name}_low")), _number(record.get(f"{name}_high"))
    return Interval(value, value if low is None else low, value if high is None else high)
