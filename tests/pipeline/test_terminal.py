"""What the terminal shows of a whole run: names, figures and intervals stand whole at every width."""

import dataclasses
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from plainspoken.cli.asked import show_costs
from plainspoken.cli.scorers import show_scorers
from plainspoken.cli.show import OUT, show_conditions, show_scores
from plainspoken.config import Config
from plainspoken.llm.cost import Cost
from plainspoken.llm.spent import Spent
from plainspoken.pipeline import run, scores

WIDTHS = (60, 80, 200)


@pytest.fixture(scope="module")
def records(tiny: Config, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Mapping[str, Any]]:
    """The closing table's of a run with other calibrators beside its own."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("also") / "run"))
    also = dataclasses.replace(tiny.evaluate, also_calibrated=("none", "quantile", "conditional_mean"))
    results = run(dataclasses.replace(tiny, evaluate=also), folder, target="evaluate", force=["evaluate"])
    assert results is not None
    return results.headline_records()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Shows on a console of this width and gives the lines; only prose may be longer than it is wide."""

    def shown(width: int, show, *what) -> list[str]:
        monkeypatch.setattr(OUT, "_width", width)
        capsys.readouterr()
        show(*what)
        return capsys.readouterr().out.splitlines()

    return shown


@pytest.mark.parametrize("width", WIDTHS)
def test_conditions_and_their_intervals_are_never_torn(records: Sequence[Mapping[str, Any]], lines, width: int) -> None:
    names = [record["condition"] for record in records]
    assert {"oracle-magnitude", "rewritten:none", "rewritten:quantile"} <= set(names)
    out = lines(width, show_conditions, records)
    table = out[next(i for i, line in enumerate(out) if line.startswith("nats a token")) :]
    table = [line for line in table if not line.startswith("recovered is left out")]
    assert max(map(len, table)) <= width
    starts = [next(i for i, line in enumerate(table) if line.split()[:1] == [name]) for name in names]
    assert starts == sorted(starts)
    for record, start, end in zip(records, starts, [*starts[1:], len(table)], strict=True):
        told = " ".join(table[start:end])
        assert f"{record['ce']:.3f} " in told and f"[{record['ce_low']:.3f}, {record['ce_high']:.3f}]" in told
        assert told.rstrip().endswith(f"{record['kl']:.3f}") or f" {record['kl']:.3f}" in told
    assert all(line.count("[") == line.count("]") for line in table)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_latent_s_numbers_stand_whole_under_their_titles(finished: Path, lines, width: int) -> None:
    table = scores(finished)
    ((module, rows),) = table.rows.items()
    # A column of every scorer that there is, of other numbers than each other's.
    titles = (*table.columns[:5], "detection", "fuzzing", "intruder", "surprisal", "embedding", *table.columns[5:])
    wide = [(*row[:5], *(f"0.{i}{row[0]:0>3}" for i in range(5)), *row[5:]) for row in rows]
    out = lines(width, show_scores, module, titles, wide)
    assert max(map(len, out[1:])) <= width
    every = "\n".join(out[1:])
    first = next(i for i, line in enumerate(out) if re.match(r"\d+ ", line))
    head = out[1:first]
    assert " ".join(head).split() == list(titles[:-1])
    for row in wide:
        start = next(i for i, line in enumerate(out) if i >= first and line.split()[:1] == [row[0]])
        assert " ".join(out[start : start + len(head)]).split() == list(row[:-1])
        for title, figures in zip(head, out[start : start + len(head)], strict=True):
            ends = [[found.end() for found in re.finditer(r"\S+", line)] for line in (title, figures)]
            named = title.startswith("latent")  # which is written from the left
            assert ends[0][named:] == ends[1][named:], "each ends where its title does"
    assert all(word in every for row in rows for word in row[-1].split())


@pytest.mark.parametrize("width", WIDTHS)
def test_a_scorer_s_means_stand_over_or_beside_their_intervals(finished: Path, lines, width: int) -> None:
    ((module, found),) = scores(finished).scorers.items()
    (record,) = found
    out = lines(width, show_scorers, module, found)
    table = out[2:]
    assert table and max(map(len, table)) <= width
    assert all(line.count("[") == line.count("]") for line in table)
    told = "\n".join(table)
    for of in (record, record["control"]):
        for name in ("auprc", "f1", "correlation", "balanced_accuracy"):
            if of is not None and of[f"{name}_low"] is not None:
                assert f"{of[name]:.3f}" in told and f"[{of[f'{name}_low']:.3f}, {of[f'{name}_high']:.3f}]" in told


@pytest.mark.parametrize("width", WIDTHS)
def test_what_was_asked_of_language_models_is_never_cut_short(lines, width: int) -> None:
    spent = Spent(requests=123_456, from_cache=7_890, prompt_tokens=9_876_543, completion_tokens=1_234_567, seconds=1e5)
    out = lines(width, show_costs, [Cost("simulate (probe)", "model", spent, 111.0, 111.0)])
    figures = " ".join(out[2:-1])
    assert "…" not in figures and max(map(len, out[2:-1])) <= width
    for figure in ("123 k", "7,890", "9.88 M", "1.23 M", "100,000.0", "1,233.33", "computed", "from cache"):
        assert figure in figures
