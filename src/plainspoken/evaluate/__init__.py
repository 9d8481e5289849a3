"""Evaluation: conditions, losses on the same tokens, paired statistics, the records of results.json."""

from plainspoken.evaluate.coder_measures import MeasuredCoder, Resampled, coder_record, measure_coder
from plainspoken.evaluate.conditions import ALL_SITES, Condition, Plan, joint_conditions, site_conditions
from plainspoken.evaluate.evaluate import evaluate, units
from plainspoken.evaluate.facts import SiteFacts
from plainspoken.evaluate.losses import DocumentLosses, measure

__all__ = [
    "ALL_SITES",
    "Condition",
    "DocumentLosses",
    "MeasuredCoder",
    "Plan",
    "Resampled",
    "SiteFacts",
    "coder_record",
    "evaluate",
    "joint_conditions",
    "measure",
    "measure_coder",
    "site_conditions",
    "units",
]
