"""The pipeline: the rooms chained into stages, each in its own folder, skipped when done, resumed when killed."""

from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.run import ScoreTable, generate, run, scores

__all__ = ["SILENT", "STAGES", "Progress", "Results", "ScoreTable", "generate", "run", "scores"]
