"""Outliers are told by their norm, over all processes; what is usual is never masked."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.activations import ALONE, ActivationStore, StoredVectors
from plainspoken.activations.masks import nth_smallest
from plainspoken.errors import ConfigError
from plainspoken.types import Rows


def rows_of(n: int) -> Rows:
    """n tokens of text in rows of ten, behind a BOS each."""
    mask = np.ones((n // 10, 11), bool)
    mask[:, 0] = False
    return Rows(np.zeros(mask.shape, np.int32), mask, np.zeros(len(mask), np.int32), ("text",), "fit")


def source(x: torch.Tensor, y: torch.Tensor, outlier_norm: float) -> StoredVectors:
    store = {"site": ActivationStore(x, y, "")}
    return StoredVectors(store, rows_of(len(x)), batch=len(x), seed=0, outlier_norm=outlier_norm)


@given(st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=200), st.data())
def test_the_nth_smallest_is_that_of_sorting(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    assert nth_smallest(torch.tensor(values), place, ALONE) == sorted(values)[place]


def test_a_sink_is_masked_by_its_input_or_its_output_and_counted() -> None:
    """Of a thousand vectors, one whose x is large and one whose y is, x there being like any other."""
    x, y = torch.randn(1000, 8), torch.randn(1000, 4)
    x[17] *= 1000.0
    y[400] *= 1000.0
    found = source(x, y, 10.0)
    served = {row.numpy().tobytes() for row in found.batch(0)["site"][0]}
    assert served == {row.numpy().tobytes() for i, row in enumerate(x) if i not in (17, 400)}
    counts = found.survey("site").counts
    assert (counts.text, counts.bos, counts.examined, counts.outliers) == (1000, 100, 1000, 2)
    assert counts.median_x == pytest.approx(float(x.norm(dim=1).median()))
    assert counts.largest_y == pytest.approx(float(y[400].norm()))
    assert found.survey("site").moments.vectors == 998
    assert source(x, y, 0.0).survey("site").counts.outliers == 0


def test_what_is_masked_moves_neither_mean_nor_variance() -> None:
    x, y = torch.randn(1000, 8), torch.randn(1000, 4)
    x[17], y[17] = 1e4, 1e6
    without = [torch.cat([t[:17], t[18:]]) for t in (x, y)]
    moments = source(x, y, 10.0).survey("site").moments
    torch.testing.assert_close(moments.mean_x, without[0].mean(0))
    assert moments.variance_y == pytest.approx(float((without[1] - without[1].mean(0)).square().sum(1).mean()))


def test_where_most_outputs_are_zero_none_is_an_outlier() -> None:
    x, y = torch.randn(100, 8), torch.zeros(100, 4)
    y[::3] = 1.0
    assert source(x, y, 10.0).survey("site").counts.outliers == 0


@pytest.mark.parametrize("factor", [0.5, -1.0, math.nan])
def test_a_factor_that_masks_the_usual_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match="use 1 or more"):
        source(torch.randn(10, 2), torch.randn(10, 2), factor)
