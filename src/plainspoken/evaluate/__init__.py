"""Evaluation: conditions, losses on the same tokens, paired statistics, the records of results.json."""

from plainspoken.evaluate.conditions import ALL_SITES, Condition, Plan, joint_conditions, site_conditions
from plainspoken.evaluate.evaluate import evaluate, units
from plainspoken.evaluate.losses import DocumentLosses, measure
from plainspoken.evaluate.results import SiteFacts

__all__ = [
    "ALL_SITES",
    "Condition",
    "DocumentLosses",
    "Plan",
    "SiteFacts",
    "evaluate",
    "joint_conditions",
    "measure",
    "site_conditions",
    "units",
]
