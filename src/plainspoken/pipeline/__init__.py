"""The pipeline: the rooms chained into stages, each in its own folder, skipped when done, resumed when killed."""

from plainspoken.pipeline.asked import FailureCount, asked_a_stand_in, failure_counts, llm_costs
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.results import CoderResult, Comparison, Results, coder_results
from plainspoken.pipeline.run import (
    ScoreTable,
    compare_coders,
    dashboards,
    dry_run,
    dry_scores,
    generate,
    intervene,
    replace_ffns,
    run,
    scores,
    trace,
)

__all__ = [
    "SILENT",
    "STAGES",
    "CoderResult",
    "Comparison",
    "FailureCount",
    "Progress",
    "Results",
    "ScoreTable",
    "asked_a_stand_in",
    "coder_results",
    "compare_coders",
    "dashboards",
    "dry_run",
    "dry_scores",
    "failure_counts",
    "generate",
    "intervene",
    "llm_costs",
    "replace_ffns",
    "run",
    "scores",
    "trace",
]
