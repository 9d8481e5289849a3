"""Edges against effects: no correlation without interval and control, and a page that says what was measured."""

import re
from dataclasses import replace

import numpy as np
import pytest

from plainspoken.circuits.effects import Effects, Measured
from plainspoken.circuits.effects_told import PREDICTED, compared, record, withheld
from plainspoken.circuits.graph import Node
from plainspoken.errors import UsageError
from plainspoken.report.effects_page import render_effects
from plainspoken.report.figures.effects import correlation


def made(n: int = 12, control: int = 12, roots: int = 2, noise: float = 0.3) -> Effects:
    """Measured is predicted and noise, more of it the more of the model answers."""
    rng = np.random.default_rng(0)
    direct = rng.normal(size=(n, roots))

    def group(count: int, around: np.ndarray, layer: int) -> Measured:
        nodes = tuple(Node("latent", layer, i % 5, i, text="Fires at 9 on <b>.", activation=1.0) for i in range(count))
        return Measured(nodes, *(around + noise * s * rng.normal(size=(count, roots)) for s in (0.5, 1.0, 2.0)))

    nodes = tuple(Node("logit", position=4, index=i, label=f" t{i}", value=1.0) for i in range(roots))
    none = np.zeros((control, roots))
    return Effects(nodes, direct, direct * 1.1, group(n, direct, 0), group(control, none, 1), 7)


TOKENS = tuple(f" t{i}" for i in range(5))


def test_each_correlation_is_the_librarys_and_stands_beside_its_interval_and_the_controls_size() -> None:
    effects = made()
    page = render_effects(effects, TOKENS, {"prompt": "a <b>"})
    table = page[page.index("Correlations, beside") : page.index("Every latent")]
    for row in compared(effects):
        for which in PREDICTED:
            r = effects.correlation(which, row.measured)
            assert getattr(row, which) == r and r is not None and correlation(r) in table
        assert (row.size, row.control) == effects.size(row.measured)
    assert withheld(effects) is None and table.count("[") == 6
    assert "<b>" not in page and "Fires at 9 on &lt;b&gt;" in page
    assert not re.search(r"(src|href)=\"http", page) and page == render_effects(effects, TOKENS, {"prompt": "a <b>"})


@pytest.mark.parametrize(("n", "control", "why"), [(2, 5, "too few latents"), (12, 0, "without a control")])
def test_without_a_control_or_with_too_few_latents_no_correlation_is_told(n: int, control: int, why: str) -> None:
    effects = made(n, control)
    assert all(row.direct is None and row.total is None for row in compared(effects))
    page = render_effects(effects, TOKENS, {})
    assert why in page and not re.search(r"r −?0\.\d|\[−?0\.", page)
    assert why in record(effects, [0.1] * n, {})["withheld"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_of_a_model_in_half_precision_it_is_said_that_rounding_was_measured(dtype: str) -> None:
    effects = replace(made(), dtype=dtype)
    told, page = record(effects, [0.1] * 12, {}), render_effects(effects, TOKENS, {})
    half = dtype.endswith("16")
    assert told["model_dtype"] == dtype and (told["rounded"] is not None) == half
    assert (f"runs in {dtype}, whose rounding" in page) == ("--set lm.dtype=float32" in page) == half


def test_what_does_not_vary_has_no_correlation_and_the_reason_is_told() -> None:
    effects = made(noise=0.0)
    effects.measured.free[:] = 0
    rows = {row.measured: row for row in compared(effects)}
    assert rows["free"].direct is None and rows["held"].direct is not None
    assert "the same for all latents" in (withheld(effects) or "")


def test_changes_that_are_no_numbers_are_not_written() -> None:
    effects = made()
    effects.measured.free[3, 0] = np.nan
    with pytest.raises(UsageError, match="no numbers"):
        record(effects, [0.1] * 12, {})
