import numpy as np
import pytest

from plainspoken.language.earlier import ANYWHERE, ON_THIS_LINE, stands_earlier
from rules_made import read_pieces

TEXT = ["Lily", " ,", " a", " .", "\n", " b", " ;", " c", " d"]


@pytest.fixture(scope="module")
def reading():
    return read_pieces([[piece.encode() for piece in TEXT]])[1]


@pytest.mark.parametrize(
    ("window", "first", "last"), [(1, 1, 2), (2, 1, 5), (3, 1, 7), (4, 1, 8), (ANYWHERE, 1, 8), (ON_THIS_LINE, 1, 4)]
)
def test_the_last_n_words_are_words_and_no_punctuation(reading, window: int, first: int, last: int):
    # A word that is still being written (at its own token) is not one of the last n.
    at = 1 + np.arange(len(TEXT))  # after the BOS
    found = stands_earlier(reading, reading.index["Lily"], window, at)
    assert np.flatnonzero(found).tolist() == list(range(first, last + 1))


def test_the_latest_occurrence_counts_and_the_row_is_the_end_of_memory():
    two = read_pieces([[b"Lily", b" a", b" Lily", b" b", b" c"], [b"x", b" y", b" z", b" u", b" v"]])[1]
    unit, t = two.index["Lily"], two.t
    assert stands_earlier(two, unit, 1, np.array([4, 5, t + 2])).tolist() == [True, False, False]
