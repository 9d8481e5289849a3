"""Numbers keep their sign, their size and their uncertainty, and never print as nan."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.report import Interval, numbers


@pytest.mark.parametrize(
    ("triple", "shown"),
    [
        ((0.714, 0.68, 0.744), "71% [68, 74]"),
        ((-0.4, -0.44, -0.36), "−40% [−44, −36]"),
        ((0.031, 0.001, 0.061), "3.1% [0.1, 6.1]"),
        ((0.0004, -0.03, 0.03), "0% [−3, 3]"),
        ((0.8712, 0.8705, 0.8718), "87.12% [87.05, 87.18]"),
        ((0.871, 0.865, 0.8775), "87.1% [86.5, 87.8]"),
        ((1.0, 1.0, 1.0), "100%"),
        ((0.0, 0.0, 0.0), "0%"),
        ((-12.5, -13.0, -12.0), "−1,250% [−1,300, −1,200]"),
        ((0.714, None, None), "71% [–]"),
        ((0.002, None, None), "0.2% [–]"),
        ((0.0, None, None), "0% [–]"),
    ],
)
def test_a_share_shows_as_many_digits_as_its_interval_needs(
    triple: tuple[float, float | None, float | None], shown: str
) -> None:
    assert numbers.percent_interval(Interval(*triple)) == shown


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_defined_is_a_dash(value: float | None) -> None:
    assert numbers.nats(value) == numbers.percent(value) == numbers.p_value(value) == "—"
    assert numbers.percent_interval(None) == numbers.small_nats(None) == "—"


def test_an_interval_of_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Interval(0.5, math.nan, 0.6)
    with pytest.raises(ValueError, match="both bounds or neither"):
        Interval(0.5, None, 0.6)


@given(st.floats(-1e6, 1e6), st.integers(0, 5))
def test_a_printed_number_reads_back_within_half_a_unit(value: float, decimals: int) -> None:
    shown = numbers.fixed(value, decimals)
    assert abs(float(shown.replace("−", "-").replace(",", "")) - value) <= 0.5000001 * 10**-decimals
    assert not (shown.startswith("−") and float(shown[1:].replace(",", "")) == 0)


@given(st.floats(-2, 2), st.floats(1e-4, 1), st.floats(1e-4, 1))
def test_a_bound_off_zero_is_not_printed_as_zero(value: float, below: float, above: float) -> None:
    interval = Interval(value, value - below, value + above)
    low, high = numbers.percent_range(interval)[1:-1].replace("−", "-").split(", ")
    for bound, shown in ((interval.low, low), (interval.high, high)):
        if abs(bound) > 1e-4:
            assert math.copysign(1, float(shown)) == math.copysign(1, bound)
            assert float(shown) != 0


def test_small_changes_of_loss_keep_two_digits_of_their_width() -> None:
    assert numbers.small_nats(Interval(-0.00041, -0.00072, -0.00012)) == "−0.00041 [−0.00072, −0.00012]"
    assert numbers.small_nats(Interval(0.25, 0.2, 0.3)) == "+0.250 [+0.200, +0.300]"
    assert numbers.small_nats(Interval(-0.00041, None, None)) == "−0.00041 [–]"
    assert numbers.nats_range(Interval(0.25, None, None)) == "[–]"


def test_times_and_rates_read_as_one_says_them() -> None:
    assert [numbers.seconds(value) for value in (0.84, 42.4, 185.0, 7440.0)] == [
        "0.8 s",
        "42 s",
        "3 min 5 s",
        "2 h 4 min",
    ]
    assert [numbers.rate(value) for value in (0.0, 1 / 240, 0.12)] == ["never", "1 in 240 tokens", "12% of tokens"]
