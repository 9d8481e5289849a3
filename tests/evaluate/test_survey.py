"""Surveys: drawn from what fires, each coder alone; intervals as they are tabulated; nothing without all answers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from plainspoken.errors import UsageError
from plainspoken.evaluate.survey import (
    Answer,
    Item,
    Surveyed,
    SurveyPlan,
    Verdict,
    difference_interval,
    drawn_items,
    result,
    share,
)

Z = 1.959963984540054


@pytest.mark.parametrize(("count", "of"), [(0, 7), (7, 7), (1, 7), (41, 50), (38, 50), (1, 1)])
def test_a_wilson_interval_holds_the_shares_from_which_the_count_is_less_than_1_96_errors_off(
    count: int, of: int
) -> None:
    found = share(count, of)

    def off(p: float) -> float:
        return (count - of * p) ** 2 - Z**2 * of * p * (1 - p)

    at = count / of
    assert found.low == (0 if count == 0 else pytest.approx(brentq(off, 1e-12, at - 1e-12)))
    assert found.high == (1 if count == of else pytest.approx(brentq(off, at + 1e-12, 1 - 1e-12)))


def test_newcombe_s_interval_is_that_of_his_table() -> None:
    """Newcombe 1998, table II, method 10: 56/70 - 48/80, 9/10 - 3/10 and 10/10 - 0/10."""
    assert difference_interval(share(56, 70), share(48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference_interval(share(9, 10), share(3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert difference_interval(share(10, 10), share(0, 10)) == pytest.approx((0.6075, 1.0), abs=5e-5)


def test_only_latents_that_fire_are_drawn_each_once_and_a_coder_s_do_not_depend_on_the_other() -> None:
    firings = [np.array([0, 3, 0, 1, 2, 5, 1]), np.array([1, 1, 1, 0])]
    items = drawn_items(firings, 3, 7)
    for coder, counts in enumerate(firings):
        mine = [item.latent for item in items if item.coder == coder]
        assert len({*mine}) == 3 and all(counts[mine] > 0)
    assert items == drawn_items(firings, 3, 7) != drawn_items(firings, 3, 8)
    other = drawn_items([firings[0], np.ones(9, np.int64)], 3, 7)
    assert [i for i in items if i.coder == 0] == [i for i in other if i.coder == 0]
    with pytest.raises(UsageError, match=r"second coder 3 latents fire .* --latents 3"):
        drawn_items(firings, 4, 7)


def made_plan() -> SurveyPlan:
    coder = Surveyed("a", "mlp", "c", "t", "m", "r")
    items = tuple(Item(i % 2, i) for i in range(8))
    return SurveyPlan((coder, replace(coder, run="b")), 0, 4, 2, 1, 8, items)


def test_the_result_counts_each_coder_s_own_answers() -> None:
    plan = made_plan()
    said: list[Verdict] = ["yes", "no", "yes", "maybe", "yes", "no", "no", "yes"]
    answers = [Answer(i, verdict, i < 3, "", "") for i, verdict in enumerate(said)]
    found = result(plan, answers)
    assert [found.verdicts[0][name].count for name in ("yes", "maybe", "no")] == [3, 0, 1]
    assert [found.verdicts[1][name].count for name in ("yes", "maybe", "no")] == [1, 1, 2]
    assert [each.count for each in found.context_free] == [2, 1]
    assert found.difference == 0.5 and found.low < 0.5 < found.high
    with pytest.raises(UsageError, match="1 of 8 in the survey are not judged"):
        result(plan, answers[1:])
