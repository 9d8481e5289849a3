"""The benchmark of learning rates reads, from a run's folder, the figures that it means."""

import json
from pathlib import Path


def condition(site: str, name: str, ce: float, fraction: float | None = None, order: str | None = None, **more) -> dict:
    figures = {"recovered": None, "recovered_low": None, "recovered_high": None}
    return {"site": site, "condition": name, "fraction": fraction, "order": order, "ce": ce, **figures, **more}


def made(run: Path) -> Path:
    """A run of two sites: one with all that a run has, the other measured on a single document."""
    sure = {"recovered": 0.7, "recovered_low": 0.65, "recovered_high": 0.75}
    conditions = [
        condition("mlp.0", "original", 1.5),
        condition("mlp.0", "coder", 2.0, recovered=1.0, recovered_low=1.0, recovered_high=1.0),
        condition("mlp.0", "rewritten", 2.125, 0.5, "best", recovered=0.9, recovered_low=0.8, recovered_high=1.0),
        condition("mlp.0", "rewritten", 2.25, 1.0, "best", **sure),
        condition("mlp.0", "rewritten", 2.5, 1.0, "random", **sure),
        condition("mlp.1", "coder", 3.0),
        condition("mlp.1", "rewritten", 3.25, 1.0, "best", recovered=-0.5),
        condition("all", "rewritten", 9.0, 1.0, "best"),
    ]
    measures = {
        "mlp.0": {"fvu": 0.25, "fvu_low": 0.2, "fvu_high": 0.3, "dead": 0.125},
        "mlp.1": {"fvu": 1.25, "fvu_low": None, "fvu_high": None, "dead": 0.0},
    }
    (run / "evaluate").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"lm": {"name": "some/where/toy/"}, "train": {"lr_scale": 4.0}}))
    (run / "evaluate" / "results.json").write_text(json.dumps({"conditions": conditions}))
    for site, record in measures.items():
        (run / "measure" / site).mkdir(parents=True)
        (run / "measure" / site / "measures.json").write_text(json.dumps({"site": site, **record}))
    return run


def test_a_run_has_a_row_a_site_of_everything_rewritten(load, tmp_path: Path) -> None:
    learning_rate = load("learning_rate")
    rows = learning_rate.rows(made(tmp_path / "run"))
    assert rows == [
        ["toy, `mlp.0`", "4", "0.2500 [0.2000, 0.3000]", "12.5%", "2.0000", "2.2500", "0.700 [0.650, 0.750]"],
        ["toy, `mlp.1`", "4", "1.2500 [–, –]", "0.0%", "3.0000", "3.2500", "-0.500 [–, –]"],
    ]
    assert all(len(row) == len(learning_rate.HEAD) for row in rows)
