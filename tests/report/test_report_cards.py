"""Cards show the best, the middle and the worst, on text that lies where the latent fires and where it errs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.report import Activity, Example, LatentScore, choose_examples, choose_latents
from plainspoken.report.tokens import cells, visible
from plainspoken.types import Rows

scores = st.lists(st.none() | st.floats(-1, 1), max_size=40).map(
    lambda values: [LatentScore(i, 0.01, value, None, None, None) for i, value in enumerate(values)]
)


@given(scores, st.integers(1, 5))
def test_best_median_and_worst_are_apart_and_in_order(found: list[LatentScore], each: int) -> None:
    chosen = choose_latents(found, tokens=10_000, each=each)
    latents = [score.latent for _, score in chosen]
    assert len(latents) == len(set(latents))
    values = [score.correlation for _, score in chosen]
    assert None not in values
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    assert [rank for rank, _ in chosen] == sorted((rank for rank, _ in chosen), key="best median worst".index)
    defined = [score for score in found if score.correlation is not None]
    if defined:
        assert chosen[0][1].correlation == max(score.correlation for score in defined)  # type: ignore[type-var]
    if len(defined) >= 3 * each:
        assert len(chosen) == 3 * each
        assert chosen[-1][1].correlation == min(score.correlation for score in defined)  # type: ignore[type-var]


def test_a_latent_that_fired_once_is_no_best_one() -> None:
    rare = [LatentScore(0, 1e-4, 1.0, None, None, None)]
    often = [LatentScore(i, 0.01, 0.5 - 0.01 * i, None, None, None) for i in range(1, 10)]
    assert choose_latents(rare + often, tokens=10_000, each=3)[0][1].latent == 1


@pytest.fixture
def rows() -> Rows:
    """Two documents of 30 tokens; token 0 is a BOS outside the mask, and the second document ends early."""
    tokens = np.tile(np.arange(30), (2, 1))
    mask = np.ones((2, 30), dtype=bool)
    mask[:, 0] = False
    mask[1, 20:] = False
    return Rows(tokens, mask, np.array([0, 1]), ("one.py", "two.py"), "evaluate")


PIECES = [b""] + [f" {i}".encode() for i in range(1, 30)]


def test_examples_show_the_strongest_firing_a_typical_one_and_the_largest_error(rows: Rows) -> None:
    true = Activity(np.array([5, 15, 25, 40]), np.array([1.0, 9.0, 4.0, 3.0]))
    simulated = Activity(np.array([5, 15, 48]), np.array([1.0, 9.0, 7.5]), elsewhere=0.25)
    strongest, typical, error = choose_examples(rows, PIECES, true, simulated, before=3, after=2)
    assert [one.kind for one in (strongest, typical, error)] == ["strongest", "typical", "largest error"]
    assert (strongest.document, strongest.pieces) == ("one.py", tuple(PIECES[12:18]))
    assert (strongest.true[3], strongest.simulated[3], strongest.simulated[0]) == (9.0, 9.0, 0.25)
    assert typical.true[3] == 4.0
    # Position 48 is column 18 of the second document; what follows column 19 is padding.
    assert (error.document, error.pieces) == ("two.py", tuple(PIECES[15:20]))
    assert (error.true[3], error.simulated[3]) == (0.0, 7.5)


def test_examples_keep_within_the_text_and_do_not_overlap(rows: Rows) -> None:
    true = Activity(np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0]))
    only = choose_examples(rows, PIECES, true, Activity(np.array([], dtype=int), np.array([])), before=8, after=8)
    assert len(only) == 1
    assert only[0].pieces == tuple(PIECES[1:12])


def test_a_latent_that_never_fires_shows_only_its_largest_error(rows: Rows) -> None:
    silent = Activity(np.array([], dtype=int), np.array([]))
    (error,) = choose_examples(rows, PIECES, silent, Activity(np.array([33]), np.array([2.0])))
    assert error.kind == "largest error"
    assert choose_examples(rows, PIECES, silent, silent) == ()


def test_white_space_and_stray_bytes_are_visible() -> None:
    assert visible(b"a\n\n") == "a↵↵"
    assert visible(b"\t    x y") == "⇥····x y"
    assert visible(b" " * 20 + b"x") == "·×20·x"
    assert visible(b"\xff\x00") == "\\xff␀"
    assert visible("é\u200b".encode()) == "é\\u200b"


def test_shades_are_shares_of_the_scale_and_split_characters_are_joined(example: Example) -> None:
    shown = cells(example, scale=2.5)
    assert "".join(cell.text for cell in shown) == "def greet(name):↵······· # € <b>"
    assert [(cell.true, cell.simulated) for cell in shown if cell.title] == [(100, 80), (40, 0), (0, 50)]
    assert shown[2].title == "true 2.50 · simulated 2.00"
    assert [cell.ends_line for cell in shown].count(True) == 1


def test_an_example_without_a_value_for_every_token_is_refused() -> None:
    with pytest.raises(ValueError, match="2 tokens, 1 true, 2 simulated"):
        Example("d", "typical", (b"a", b"b"), (1.0,), (1.0, 2.0))
