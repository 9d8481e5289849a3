"""The records of `evaluate/results.json` as typed conditions, those of `measures.json` as a typed coder."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from plainspoken.errors import StoreError
from plainspoken.report.asked import GateReport, ScorerReport
from plainspoken.report.data import CoderReport, Measured
from plainspoken.report.interval import Interval


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
    ce = interval_of(record, "ce")
    if ce is None:
        raise TypeError("`ce` is not a number")
    for name in ("kl", "top1"):  # not defined is told by null
        record[name]
    return Measured(
        site=str(record["site"]),
        condition=str(record["condition"]).partition("@")[0],
        fraction=_number(record["fraction"]),
        order=record["order"],
        calibrator=record["calibrator"],
        ce=ce,
        increase=interval_of(record, "increase"),
        recovered=interval_of(record, "recovered"),
        over_mean=interval_of(record, "recovered_over_mean"),
        kl=interval_of(record, "kl"),
        top1=interval_of(record, "top1"),
        documents=int(record["documents"]),
        tokens=int(record["tokens"]),
        p_beats_zero=_number(record.get("p_beats_zero")),
        equivalent_to_zero=record.get("equivalent_to_zero"),
        coverage=_number(record.get("coverage")),
        withheld=record.get("withheld"),
        above_shuffled=interval_of(record, "above_shuffled"),
        calibrated=_number(record.get("coverage_calibrate")),
    )


def coder_report(record: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> CoderReport:
    """A record of measures.json with the lines of its training's log."""
    names = ("fvu", "l0", "ce_original", "increase", "kl", "recovered_zero", "recovered_mean")
    figures = {name: interval_of(record, name) for name in names}
    return CoderReport(
        latents=record["latents"],
        tokens=record["tokens"],
        dead=record["dead"],
        log10_rate=tuple(record["density"]["log10_rate"]),
        density=tuple(record["density"]["latents"]),
        silent=record["density"]["silent"],
        training=tuple((line["vectors"], line["fvu"]) for line in log),
        **figures,
    )


def gate_report(counts: Mapping[str, Any]) -> GateReport | None:
    """The counts of a site's simulate manifest; None where there was no gate."""
    gate = counts.get("gate")
    if gate is None:
        return None
    passed, dropped = (
        sum(int(counts[f"{share}_pairs_{what}"]) for share in ("calibrate", "scoring", "evaluate"))
        for what in ("asked", "dropped")
    )
    record = {**gate, "documents": gate["documents_measured_on"]}
    recall, mass = interval_of(record, "recall"), interval_of(record, "mass_recall")
    return GateReport(
        kind=gate["kind"],
        target=gate["target"],
        recall=recall,
        mass_recall=mass,
        passed=passed,
        dropped=dropped,
        latents=gate["latents"],
        open=gate["latents_open"],
        documents=record["documents"],
        tightened=gate.get("tightened", 0),  # no gate of before this was counted was
    )


def scorer_report(record: Mapping[str, Any]) -> ScorerReport:
    """A record of scores.json."""
    lines = (
        ("own sentence", record),
        ("another latent’s", record["control"]),
        ("own above other", record["above_control"]),
    )
    rows = tuple(
        (name, tuple(interval_of({**told, "documents": record["documents"]}, each) for each in ScorerReport.MEASURES))
        for name, told in lines
        if told is not None
    )
    asked, answered = record["examples_asked"], record["examples_answered"]
    return ScorerReport(record["scorer"], record["latents"], record["documents"], asked, answered, rows)


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def interval_of(record: Mapping[str, Any], name: str) -> Interval | None:
    """The figure `name` with `name_low` and `name_high`; None where it, or how sure it is, is not defined.

    A figure that was recorded without bounds (no such keys) is its own interval. One of a single document, which can
    have none, stays without: with more, bounds that are undefined mean that the figure itself is in many of the draws.
    """
    value = _number(record.get(name))
    low, high = (_number(record.get(f"{name}_{bound}", value)) for bound in ("low", "high"))
    if value is None:
        return None
    if low is None or high is None:
        return Interval(value, None, None) if record.get("documents", 2) < 2 else None
    return Interval(value, low, high)
