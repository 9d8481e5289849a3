"""Which tokens are spliced and measured, and that whoever changes the answer changes no row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.rewrite.spans import Positions, spans


@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4), st.sampled_from(["all", "last"])
)
def test_what_is_found_shares_nothing_with_the_mask_nor_with_itself(
    mask: list[list[bool]], positions: Positions
) -> None:
    """A Rows is frozen, its arrays are not: a caller who turned some tokens off once turned them off in the text."""
    given_mask = np.array(mask)
    found, again = spans(given_mask, positions), spans(given_mask, positions)
    found.spliced[:] = ~found.spliced
    assert (given_mask == np.array(mask)).all()
    assert (found.measured == again.measured).all()


@pytest.mark.parametrize("positions", ["all", "last"])
def test_padding_and_bos_are_neither_spliced_nor_predicted(positions: Positions) -> None:
    mask = np.array([[False, True, True, True, False], [False, True, False, False, False]])
    found = spans(mask, positions)
    assert not (found.spliced & ~mask).any()
    assert not found.measured[:, -1].any() and not (found.measured[:, :-1] & ~mask[:, 1:]).any()
    if positions == "last":
        assert found.spliced.tolist() == found.measured.tolist() == [[False, False, True, False, False], [False] * 5]
