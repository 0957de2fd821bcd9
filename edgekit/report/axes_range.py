"""Which stretch of the drop axis is worth drawing.

One candidate that loses everything would flatten a budget of 0.005 to a line, and the budget is what the plot is about.
So the axis is as long as the budget needs, and what falls beyond it is drawn in a band of its own with its figure.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["DropRange", "drop_range", "needs_log"]

BEYOND = 2.0
"""Drops over this many budgets are off the scale."""

REACH = 2.8
"""No interval bar stretches the axis past this many budgets."""

LOG_FROM = 6.0
"""Latencies that differ by more than this factor go on a logarithmic axis."""


@dataclass(frozen=True)
class DropRange:
    """The ends of the drop axis: `best` is the top of the plot, `worst` its bottom."""

    best: float
    worst: float

    def beyond(self, drop: float) -> bool:
        """Whether a drop is off the scale, for the worse."""
        return drop > self.worst

    def clipped(self, drop: float) -> float:
        """A drop moved onto the scale."""
        return min(max(drop, self.best), self.worst)


def drop_range(drops: Sequence[tuple[float, tuple[float, float] | None]], max_drop: float) -> DropRange:
    """The range that shows the budget and everything near it.

    Args:
        drops: Each candidate's drop and its interval.
        max_drop: The budget.
    """
    unit = max_drop
    if not math.isfinite(unit) or unit <= 0:
        sizes = [abs(drop) for drop, _ in drops if drop]
        unit = statistics.median_low(sizes) if sizes else 1e-3
    worst, best = 1.3 * unit, -0.35 * unit
    for drop, ends in drops:
        if abs(drop) > BEYOND * unit:
            continue
        low, high = ends or (drop, drop)
        worst = max(worst, 1.1 * drop, min(1.05 * high, REACH * unit))
        best = min(best, 1.1 * drop, max(1.05 * low, -REACH * unit))
    return DropRange(best, worst)


def needs_log(latencies: Sequence[float]) -> bool:
    """Whether a linear axis would push the fast ones together."""
    positive = [latency for latency in latencies if latency > 0]
    return len(positive) == len(latencies) and max(positive) > LOG_FROM * min(positive)
