"""The report: typed results in, one self-contained HTML file out."""

from plainspoken.report.cards import Activity, choose_examples, choose_latents
from plainspoken.report.data import (
    Card,
    Edit,
    Example,
    FailureRow,
    FrontierPoint,
    Interval,
    LatentScore,
    Measured,
    Provenance,
    ReportData,
    SiteReport,
)
from plainspoken.report.headline import Headline, headline
from plainspoken.report.page import render_report, write_report
from plainspoken.report.records import interval_of, measured_by_site

__all__ = [
    "Activity",
    "Card",
    "Edit",
    "Example",
    "FailureRow",
    "FrontierPoint",
    "Headline",
    "Interval",
    "LatentScore",
    "Measured",
    "Provenance",
    "ReportData",
    "SiteReport",
    "choose_examples",
    "choose_latents",
    "headline",
    "interval_of",
    "measured_by_site",
    "render_report",
    "write_report",
]
