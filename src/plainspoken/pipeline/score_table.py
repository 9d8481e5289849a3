"""The table that `plainspoken score` shows: one row a latent."""

from collections.abc import Sequence

from plainspoken.errors import UsageError
from plainspoken.pipeline import explanations
from plainspoken.pipeline.run import ScoreTable
from plainspoken.pipeline.shelves import load_scores, load_statistics
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers.simulation import MEASURES

COLUMNS = ("latent", *MEASURES, "rate", "mass", "words", "text")


def score_table(workplace: Workplace, modules: Sequence[str], sort: str) -> ScoreTable:
    """Scores on calibrate documents, highest first by the column `sort`; undefined scores stand last, as a dash.

    Raises UsageError for a column that there is not.
    """
    if sort not in COLUMNS[:-1]:
        raise UsageError(f"--sort {sort}: there is no such column; columns: {', '.join(COLUMNS[:-1])}")
    return ScoreTable(COLUMNS, {module: _rows(workplace, module, sort) for module in modules})


def _rows(workplace: Workplace, module: str, sort: str) -> tuple[tuple[str, ...], ...]:
    scores = load_scores(workplace, module)
    found, _ = load_statistics(workplace, module, "calibrate")
    written = explanations.read_explanations(workplace.path("explain", module), len(found.rate))
    lines: list[tuple[float, int, tuple[str, ...]]] = []
    for latent in range(len(found.rate)):
        explanation = written.get(latent)
        numbers: dict[str, float | None] = {"latent": latent}
        numbers |= {name: getattr(scores, name).of(latent) for name in MEASURES}
        numbers |= {"rate": float(found.rate[latent]), "mass": float(found.mass[latent])}
        numbers["words"] = explanation.words if explanation is not None else None
        by = numbers[sort]
        cells = [_cell(numbers[name]) for name in COLUMNS[:-1]]
        text = explanation.text if explanation is not None else "(not explained)"
        lines.append((-by if by is not None else float("inf"), latent, (*cells, text)))
    return tuple(cells for _, _, cells in sorted(lines))


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
