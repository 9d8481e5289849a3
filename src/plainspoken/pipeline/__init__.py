"""The pipeline: the rooms chained into stages, each in its own folder, skipped when done, resumed when killed."""

from plainspoken.pipeline.asked import FailureCount, asked_a_stand_in, failure_counts, llm_costs
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.circuit_verbs import behaviour, connections, head_norms, intervene, replace_ffns, trace
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.results import CoderResult, Comparison, Results, coder_results
from plainspoken.pipeline.run import (
    ScoreTable,
    compare_coders,
    dashboards,
    dry_run,
    dry_scores,
    generate,
    run,
    scores,
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
    "behaviour",
    "coder_results",
    "compare_coders",
    "connections",
    "dashboards",
    "dry_run",
    "dry_scores",
    "failure_counts",
    "generate",
    "head_norms",
    "intervene",
    "llm_costs",
    "replace_ffns",
    "run",
    "scores",
    "trace",
]
