"""Where the time goes: each operator's share in the float model and in what ships, as bars of one scale."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.deployment import OperatorTime
from edgekit.report.numbers import DASH, ratio, significant

__all__ = ["OperatorBar", "operator_bars"]

MOST_BARS = 12
WORTH_A_BAR = 0.005
"""Operators that take less than this part of the longest, and those that come after many others, are summed up."""


@dataclass(frozen=True)
class OperatorBar:
    """One operator.

    Attributes:
        operator: Its type.
        float_us: Microseconds a call in the float model, in words.
        chosen_us: The same in what ships.
        change: How many times as fast, where both have it.
        float_share: Length of its bar in the float model, in percent of the longest.
        chosen_share: The same in what ships.
    """

    operator: str
    float_us: str
    chosen_us: str
    change: str
    float_share: float
    chosen_share: float


def operator_bars(times: Sequence[OperatorTime]) -> tuple[list[OperatorBar], OperatorBar | None]:
    """The operators, the longest first, and the sum of all; nothing of either where nothing was timed."""
    if not times:
        return [], None
    ordered = sorted(times, key=_longest, reverse=True)
    shown = [one for one in ordered[:MOST_BARS] if _longest(one) >= WORTH_A_BAR * _longest(ordered[0])]
    rest = ordered[len(shown) :]
    if len(rest) > 1:
        ordered = [*shown, _sum(f"{len(rest)} others", rest)]
    longest = max(_longest(one) for one in ordered) or 1.0
    return [_bar(one, longest) for one in ordered], _bar(_sum("all together", times), 0.0)


def _longest(time: OperatorTime) -> float:
    return max(time.float_us or 0.0, time.chosen_us or 0.0)


def _sum(name: str, times: Sequence[OperatorTime]) -> OperatorTime:
    floats = [time.float_us for time in times if time.float_us is not None]
    chosen = [time.chosen_us for time in times if time.chosen_us is not None]
    return OperatorTime(name, sum(floats) if floats else None, sum(chosen) if chosen else None)


def _bar(time: OperatorTime, longest: float) -> OperatorBar:
    return OperatorBar(
        time.operator,
        significant(time.float_us),
        significant(time.chosen_us),
        ratio(time.float_us / time.chosen_us) if time.float_us and time.chosen_us else DASH,
        round(100 * (time.float_us or 0.0) / longest, 2) if longest else 0.0,
        round(100 * (time.chosen_us or 0.0) / longest, 2) if longest else 0.0,
    )
