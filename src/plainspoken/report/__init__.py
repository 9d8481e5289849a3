"""The report: typed results in, one self-contained HTML file out."""

from plainspoken.report.asked import FailureKind, GateReport, ScorerReport, Speaker, Speakers, Unanswered
from plainspoken.report.cards import Activity, choose_examples, choose_latents
from plainspoken.report.data import CoderReport, FrontierPoint, Measured, Provenance, ReportData, SiteReport
from plainspoken.report.figures.comparison import ComparedCoder
from plainspoken.report.headline import Headline, headline
from plainspoken.report.interval import Interval
from plainspoken.report.latents import Card, Edit, Example, FailureRow, LatentScore
from plainspoken.report.page import render_report, write_report
from plainspoken.report.records import coder_report, gate_report, interval_of, measured_by_site, scorer_report

__all__ = [
    "Activity",
    "Card",
    "CoderReport",
    "ComparedCoder",
    "Edit",
    "Example",
    "FailureKind",
    "FailureRow",
    "FrontierPoint",
    "GateReport",
    "Headline",
    "Interval",
    "LatentScore",
    "Measured",
    "Provenance",
    "ReportData",
    "ScorerReport",
    "SiteReport",
    "Speaker",
    "Speakers",
    "Unanswered",
    "choose_examples",
    "choose_latents",
    "coder_report",
    "gate_report",
    "headline",
    "interval_of",
    "measured_by_site",
    "render_report",
    "scorer_report",
    "write_report",
]
