"""An estimate and how sure it is: what every figure of a report is."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; without bounds where one document cannot tell how sure it is.

    Raises ValueError unless the numbers are finite, and both bounds there or neither.
    """

    value: float
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval needs both bounds or neither, not {self.low}, {self.high}")
        if not all(math.isfinite(number) for number in (self.value, *self.reach)):
            raise ValueError(f"an interval needs finite numbers, not {self.value}, {self.low}, {self.high}")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Both bounds, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def reach(self) -> tuple[float, float]:
        """What a drawing must have room for: from bound to bound, or the estimate alone."""
        return self.bounds or (self.value, self.value)

    @property
    def sign(self) -> int | None:
        """1 where the whole interval is above zero, -1 below it, 0 where it touches zero; None without bounds."""
        if self.bounds is None:
            return None
        low, high = self.bounds
        return 1 if low > 0 else -1 if high < 0 else 0
