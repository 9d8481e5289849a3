"""The table that `plainspoken score` shows: one row a latent."""

from collections.abc import Mapping, Sequence
from typing import Any

from plainspoken.errors import UsageError
from plainspoken.pipeline import explanations
from plainspoken.pipeline.run import ScoreTable
from plainspoken.pipeline.shelves import load_judged, load_scores, load_statistics
from plainspoken.pipeline.simulation_scored import SCORES
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers import JudgedScores
from plainspoken.scorers.simulation import SHOWN, Measure
from plainspoken.store import read_json

COLUMNS = ("latent", *SHOWN, "rate", "mass", "words", "text")


def columns(scorers: Sequence[str]) -> tuple[str, ...]:
    """The columns' names: with scorers one for each, behind the simulation's."""
    return (*COLUMNS[: 1 + len(SHOWN)], *scorers, *COLUMNS[1 + len(SHOWN) :])


def require_column(sort: str, scorers: Sequence[str]) -> None:
    """Raises UsageError for a column to sort by that there is not."""
    known = columns(scorers)[:-1]
    if sort not in known:
        raise UsageError(f"--sort {sort}: there is no such column; columns: {', '.join(known)}")


def score_table(workplace: Workplace, modules: Sequence[str], sort: str) -> ScoreTable:
    """Scores on the scorers' documents, highest first by the column `sort`; undefined scores, and those of latents
    without a sentence, stand last, as a dash.

    A scorer's column holds its balanced accuracy. Raises UsageError for a column that there is not.
    """
    scorers = workplace.config.score.scorers
    require_column(sort, scorers)
    written = {module: explanations.read_explanations(workplace.path("explain", module)) for module in modules}
    rows = {module: _rows(workplace, module, sort) for module in modules}
    return ScoreTable(
        columns(scorers),
        rows,
        {module: scores_found(workplace, module) for module in modules},
        {module: frozenset(set(range(len(rows[module]))) - written[module].keys()) for module in modules},
    )


def scores_found(workplace: Workplace, module: str) -> tuple[Mapping[str, Any], ...]:
    """What the simulation and each of the run's scorers found of a site: their scores.json."""
    scorers = workplace.config.score.scorers
    folders = [workplace.path("calibrate", module), *(workplace.path("score", f"{module}/{name}") for name in scorers)]
    return tuple(read_json(folder / SCORES) for folder in folders)


def _rows(workplace: Workplace, module: str, sort: str) -> tuple[tuple[str, ...], ...]:
    scorers = workplace.config.score.scorers
    scores = load_scores(workplace, module)
    measures: dict[str, Measure] = {name: getattr(scores, name) for name in SHOWN}
    for scorer in scorers:
        judged = load_judged(workplace.path("score", f"{module}/{scorer}") / "judged.safetensors")
        measures[scorer] = JudgedScores.of(judged).balanced_accuracy
    found, _ = load_statistics(workplace, module, "calibrate")
    written = explanations.read_explanations(workplace.path("explain", module), len(found.rate))
    lines: list[tuple[float, int, tuple[str, ...]]] = []
    for latent in range(len(found.rate)):
        explanation = written.get(latent)
        numbers: dict[str, float | None] = {"latent": latent}
        # Of a latent without a sentence nothing was said: that it is never said to fire is no score.
        spoken = explanation is not None
        numbers |= {name: measure.of(latent) if spoken else None for name, measure in measures.items()}
        numbers |= {"rate": float(found.rate[latent]), "mass": float(found.mass[latent])}
        numbers["words"] = explanation.words if explanation is not None else None
        by = numbers[sort]
        cells = [_cell(numbers[name]) for name in columns(scorers)[:-1]]
        text = explanation.text if explanation is not None else "(not explained)"
        lines.append((-by if by is not None else float("inf"), latent, (*cells, text)))
    return tuple(cells for _, _, cells in sorted(lines))


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
