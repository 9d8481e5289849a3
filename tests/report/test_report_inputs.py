"""Records of results.json become typed conditions or are refused; labels of a figure keep apart."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.errors import StoreError
from plainspoken.report import Interval, ReportData, measured_by_site
from plainspoken.report.figures.frame import spread
from plainspoken.report.select import curve, whole

RECORD = {
    "site": "model.layers.2.mlp", "condition": "rewritten@1.0", "fraction": 1.0, "order": "best",
    "calibrator": "conditional_mean", "ce": 2.14, "ce_low": 2.1, "ce_high": 2.2, "recovered": 0.71,
    "recovered_low": 0.68, "recovered_high": 0.74, "recovered_over_mean": 0.7, "kl": 0.1, "top1": 0.9,
    "documents": 127, "tokens": 31204, "words_mean": 58.3,
}  # fmt: skip


def test_a_record_of_the_issue_reads_as_a_condition() -> None:
    text = json.dumps([RECORD, RECORD | {"site": "all", "recovered": None, "order": None}])
    found = measured_by_site(json.loads(text))
    assert list(found) == ["model.layers.2.mlp", "all"]
    (row,), (joint,) = found.values()
    assert (row.condition, row.fraction, row.ce) == ("rewritten", 1.0, Interval(2.14, 2.1, 2.2))
    assert row.over_mean == Interval(0.7, 0.7, 0.7)
    assert (row.increase, row.p_beats_zero, joint.recovered) == (None, None, None)


def test_what_is_not_finite_is_not_defined() -> None:
    ((row,),) = measured_by_site([RECORD | {"kl": math.nan, "recovered": math.inf}]).values()
    assert (row.kl, row.recovered) == (None, None)
    ((unsure,),) = measured_by_site([RECORD | {"recovered_low": None, "recovered_high": None}]).values()
    assert unsure.recovered is None, "a figure whose bounds are not defined is no sure figure"


def test_a_figure_of_one_document_stays_without_bounds() -> None:
    """It is defined, though nobody knows how sure it is; and a loss without bounds is no broken record."""
    bare = {f"{name}_{end}": None for name in ("ce", "recovered") for end in ("low", "high")}
    ((row,),) = measured_by_site([RECORD | bare | {"documents": 1}]).values()
    assert (row.ce, row.recovered) == (Interval(2.14, None, None), Interval(0.71, None, None))


@pytest.mark.parametrize("field", ["site", "ce", "fraction", "documents", "kl", "top1"])
def test_a_record_without_a_field_is_refused_by_place_and_name(field: str) -> None:
    with pytest.raises(StoreError, match=rf"record 1 .*{field}"):
        measured_by_site([RECORD, {name: value for name, value in RECORD.items() if name != field}])


def test_conditions_are_found_at_their_largest_fraction(data: ReportData) -> None:
    site = data.sites[0]
    found = whole(site, "rewritten")
    assert found is not None
    assert (found.fraction, found.order) == (1.0, "best")
    assert [row.fraction for row in curve(site, "rewritten", "mass")] == [0.01, 0.2, 1.0]
    assert whole(site, "oracle-support") is None


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.01, 0.1))
def test_labels_keep_apart_in_order_and_within_the_axes(wanted: list[float], gap: float) -> None:
    placed = spread(wanted, gap, 0.0, 1.0)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    steps = [placed[b] - placed[a] for a, b in pairwise(order)]
    assert all(step >= gap - 1e-9 for step in steps)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in placed)
    if all(abs(a - b) > 1.01 * gap for i, a in enumerate(wanted) for b in wanted[:i]):
        assert placed == pytest.approx(wanted)
