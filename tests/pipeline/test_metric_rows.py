"""The rows that the loss is weighed on come from as many documents as there are."""

import numpy as np

from plainspoken.pipeline.stages.encode import spread_rows
from plainspoken.types import Rows


def documents(*lengths: int) -> Rows:
    """Documents of so many rows."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    mask = np.ones((len(owner), 2), bool)
    return Rows(mask.astype(np.int32), mask, owner, tuple(map(str, range(len(lengths)))), "explain")


def test_documents_of_one_row_give_the_first_rows() -> None:
    assert spread_rows(documents(*[1] * 60), 48).tolist() == list(range(48))
    assert spread_rows(documents(*[1] * 20), 48).tolist() == list(range(20))


def test_each_document_gives_its_middle_row() -> None:
    assert spread_rows(documents(5, 1, 3, 2), 3).tolist() == [2, 5, 7]


def test_few_documents_are_filled_up_in_order_and_no_row_is_taken_twice() -> None:
    assert spread_rows(documents(5, 3), 5).tolist() == [0, 1, 2, 3, 6]
    assert spread_rows(documents(5, 3), 48).tolist() == list(range(8))
