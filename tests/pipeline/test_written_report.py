"""A report written by a run: what its scorers and its gate found stands on the page, to the digits that are shown."""

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from judges import guessing, service
from llm.server import Server, serve
from plainspoken.config import Config
from plainspoken.pipeline import explanations, run
from plainspoken.pipeline.shelves import SHARES
from plainspoken.report import Interval, ScorerReport, interval_of, numbers
from plainspoken.store import Manifest

SITE = "gpt_neox.layers.0.mlp"
SCORERS = ("embedding", "detection", "fuzzing")


class Tables(HTMLParser):
    """The cells of every table in a region, row by row, under the region's name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if told.get("role") == "region":
            self._rows = self.found.setdefault(str(told["aria-label"]), [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th") and self._rows:
            self._inside = True
            self._rows[-1].append("")
        if tag == "span" and self._inside:  # bounds stand on a line of their own
            self._rows[-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._rows[-1][-1] += data


@pytest.fixture(scope="module")
def written(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with three scorers, two of them by a judge who guesses, a gate, and sentences of nine latents alone."""
    folder = tmp_path_factory.mktemp("written")
    with serve(Server(reply=guessing)) as server:
        score = dataclasses.replace(
            tiny.score, scorers=SCORERS, llm=service(server, folder), per_decile=1, silent=6, window=16, share=0.34,
            control_latents=3,
        )  # fmt: skip
        simulate = dataclasses.replace(tiny.simulate, gate="embedding", gate_recall=0.5)
        explain = dataclasses.replace(tiny.explain, latents=9)
        run(dataclasses.replace(tiny, explain=explain, score=score, simulate=simulate), folder / "run")
    yield folder / "run"


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


def figure(interval: Interval | None, signed: bool) -> str:
    """A score as the table has it: without bounds where nothing varies."""
    bare = interval is not None and interval.low is not None and interval.low == interval.high
    return numbers.nats(interval.value, signed) if bare else numbers.score(interval, signed)


@pytest.mark.slow
@pytest.mark.checked
def test_what_scorers_found_is_on_the_page_beside_its_control(written: Path, page: str) -> None:
    rows = Tables(page).found[f"Scorers, {SITE}"]
    head, body = rows[0], rows[1:]
    assert head == ["Scorer", "Sentence", "AUPRC", "F1", "Balanced accuracy", "Correlation"]
    folders = {"simulation": written / "calibrate" / SITE}
    folders |= {name: written / "score" / SITE / name for name in SCORERS}
    assert len(body) == 3 * len(folders)
    for at, (name, folder) in enumerate(folders.items()):
        record = json.loads((folder / "scores.json").read_text())
        own, control, above = body[3 * at : 3 * at + 3]
        what = "(latent, token) pairs" if name == "simulation" else "texts"
        assert own[0].startswith(name) and f"{record['examples_asked']:,} {what} of {record['documents']}" in own[0]
        told = ((own[1:], record, "own sentence"), (control, record["control"], "another latent’s"),
                (above, record["above_control"], "own above other"))  # fmt: skip
        for cells, of, label in told:
            assert cells[0] == label
            for cell, measure in zip(cells[1:], ScorerReport.MEASURES, strict=True):
                interval = interval_of({**of, "documents": record["documents"]}, measure)
                assert cell == figure(interval, signed=label == "own above other")
        shown = [cell for cell in (*own[2:], *control[1:], *above[1:]) if cell != numbers.UNDEFINED]
        assert len(shown) >= 6 and all(re.search(r"\[[−+]?\d\.\d{3}, [−+]?\d\.\d{3}\]", cell) for cell in shown)


def test_what_the_gate_dropped_and_kept_is_on_the_page(written: Path, page: str) -> None:
    counts = Manifest.load(written / "simulate" / SITE / "manifest.json").counts
    gate, rows = counts["gate"], Tables(page).found[f"Gate, {SITE}"]
    cells = dict(zip(rows[0], rows[1], strict=True))
    passed, dropped = (sum(counts[f"{part}_pairs_{what}"] for part in SHARES)
                       for what in ("asked", "dropped"))  # fmt: skip
    assert dropped > 0
    assert cells["Gate"] == "embedding" and cells["Firings to keep"] == "50.0%"
    assert cells["Pairs passed"] == f"{passed:,}"
    assert cells["Pairs dropped"] == f"{dropped:,} ({numbers.percent(dropped / (passed + dropped), 2)})"
    assert cells["Tightened"] == str(gate["tightened"])
    assert cells["Latents that pass everywhere"] == f"{gate['latents_open']} of {gate['latents']}"
    for name, title in (("recall", "Firings kept"), ("mass_recall", "By mass")):
        assert gate[name] >= gate["target"]
        assert cells[title] == numbers.percent_interval(interval_of(gate, name))
        assert "[" in cells[title]
    assert f"measured on {gate['documents_measured_on']} documents that did not choose its thresholds" in page


def test_every_row_of_the_conditions_has_its_interval(written: Path, page: str) -> None:
    """And the rewrite its distance from the control, in the same documents."""
    records = json.loads((written / "evaluate" / "results.json").read_text())["conditions"]
    rows = Tables(page).found[f"All conditions, {SITE}"]
    assert len(rows) == 1 + len([r for r in records if not r["condition"].startswith("rewritten-")])
    head, body = rows[0], [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [name for name in head if name.endswith("[95%]")] == [
        "Loss [95%]", "Over original [95%]", "Recovered [95%]", "Over the mean [95%]", "Above shuffled [95%]",
        "KL [95%]", "Top-1 kept [95%]",
    ]  # fmt: skip
    for record, row in zip(records, body, strict=True):
        assert row["Loss [95%]"] == numbers.score(interval_of(record, "ce"))
        assert row["KL [95%]"] == numbers.score(interval_of(record, "kl"))
        above = interval_of(record, "above_shuffled")
        assert row["Above shuffled [95%]"] == ("" if above is None else numbers.percent_interval(above))


def test_quantiles_of_scores_are_of_latents_with_a_sentence(written: Path, page: str) -> None:
    """Of one without, nothing is said that could be right: its specificity of 1 is no score."""
    spoken = sorted(explanations.read_explanations(written / "explain" / SITE))
    assert 0 < len(spoken) <= 9
    with safe_open(written / "calibrate" / SITE / "scores.safetensors", "numpy") as scores:
        found = {name: scores.get_tensor(name)[spoken] for name in ("specificity", "sensitivity")}
        defined = {name: scores.get_tensor(f"{name}.defined")[spoken] for name in found}
    rows = {row[0]: row[1:] for row in Tables(page).found[f"Scores by quantile, {SITE}"][1:]}
    for name, decimals in (("sensitivity", 3), ("specificity", 4)):
        at = np.quantile(found[name][defined[name]], (0.05, 0.25, 0.5, 0.75, 0.95))
        assert rows[name] == [numbers.fixed(float(value), decimals) for value in at]
