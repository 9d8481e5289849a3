"""Numbers as a reader wants them: few digits, a true minus sign, a dash for what is not defined."""

import math

from plainspoken.language.counted import counted
from plainspoken.report.interval import Interval

UNDEFINED = "—"
UNBOUNDED = "[–]"
"""In the place of an interval that one document cannot give."""


def fixed(value: float | None, decimals: int, signed: bool = False) -> str:
    """`value` with so many decimals and thousands separated; never "−0.0", never "nan"."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    rounded = round(value, decimals)
    sign = "−" if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}{abs(rounded):,.{decimals}f}"


def count(value: int) -> str:
    """An integer with its thousands separated."""
    return f"{value:,}"


def share_decimals(interval: Interval) -> int:
    """Decimals of a percentage: none, unless rounding would hide the width or move a bound onto zero."""
    low, high = (100 * bound for bound in interval.reach)
    for decimals in (0, 1):
        moved = any(bound != 0 and round(bound, decimals) == 0 for bound in (low, high))
        if interval.bounds is None and not moved:
            return decimals
        if high - low >= 2 * 10**-decimals and not moved:
            return decimals
    return 0 if low == high == round(low) else 2


def percent(value: float | None, decimals: int = 0) -> str:
    """A share as a percentage: 0.714 is 71%."""
    return UNDEFINED if value is None or not math.isfinite(value) else f"{fixed(100 * value, decimals)}%"


def at_least_shown(share: float) -> str:
    """A share above zero as a percentage that is never 0: 0.00004 is "less than 0.01%"."""
    return "less than 0.01%" if 0 < share < 1e-4 else percent(share, 2 if share < 0.01 else 1)


def percent_interval(interval: Interval | None) -> str:
    """71% [68, 74]; 100% alone where nothing varies; 71% [–] without bounds."""
    if interval is None:
        return UNDEFINED
    return f"{percent_value(interval)} {percent_range(interval)}".rstrip()


def percent_value(interval: Interval) -> str:
    """71%: the estimate alone, with as many decimals as its interval."""
    return percent(interval.value, share_decimals(interval))


def percent_range(interval: Interval) -> str:
    """[68, 74]: the bounds alone, in percent; nothing where nothing varies."""
    if interval.bounds is None:
        return UNBOUNDED
    low, high = interval.bounds
    if low == high:
        return ""
    decimals = share_decimals(interval)
    return f"[{fixed(100 * low, decimals)}, {fixed(100 * high, decimals)}]"


def nats(value: float | None, signed: bool = False) -> str:
    """A loss in nats a token, three decimals."""
    return fixed(value, 3, signed)


def nats_range(interval: Interval, signed: bool = False) -> str:
    """[2.108, 2.201]."""
    if interval.bounds is None:
        return UNBOUNDED
    low, high = interval.bounds
    return f"[{nats(low, signed)}, {nats(high, signed)}]"


def small_nats(interval: Interval | None) -> str:
    """A signed change of loss with its interval, with as many decimals as the interval needs (at most 6)."""
    if interval is None:
        return UNDEFINED
    width = interval.reach[1] - interval.reach[0]
    scale = width if width > 0 else abs(interval.value)
    decimals = 3 if scale == 0 else min(6, max(3, 1 - math.floor(math.log10(scale))))
    value = fixed(interval.value, decimals, True)
    if interval.bounds is None:
        return f"{value} {UNBOUNDED}"
    low, high = (fixed(bound, decimals, True) for bound in interval.bounds)
    return f"{value} [{low}, {high}]"


def score(interval: Interval | None, signed: bool = False) -> str:
    """0.713 [0.680, 0.745]: a score with three decimals and its interval."""
    return UNDEFINED if interval is None else f"{fixed(interval.value, 3, signed)} {nats_range(interval, signed)}"


def p_value(value: float | None) -> str:
    """p < 0.001, or p = 0.02."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def rate(value: float) -> str:
    """Firings a token: "1 in 240 tokens"; "12% of tokens" when frequent; "never" when zero."""
    if value < 1e-12:
        return "never"
    return f"{percent(value)} of tokens" if value >= 0.1 else f"1 in {counted(round(1 / value), 'token')}"


def seconds(value: float) -> str:
    """0.8 s, 42 s, 3 min 5 s, 2 h 4 min."""
    if value < 10:
        return f"{fixed(value, 1)} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def activation(value: float) -> str:
    """An activation for a tooltip: two decimals, "0" when absent."""
    return "0" if value == 0 else fixed(value, 2)


def listing(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
