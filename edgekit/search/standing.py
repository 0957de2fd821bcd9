"""Standing: who of the lineup is ahead, by what was measured so far."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Literal

from edgekit.lineup import FLOAT
from edgekit.search.judging import is_accurate
from edgekit.search.state import SearchState
from edgekit.verdict import Left

__all__ = [
    "SCREENING_NOISE",
    "best_of",
    "fastest_first",
    "gain",
    "is_hopeless",
    "leaders",
    "leave",
    "ratio",
    "running",
    "surely_slower",
]

# Outputs with less than this have nothing to do with float's; they are not worth timing.
HOPELESS_DB = 3.0
# A figure of five rounds may be off by this much: who is slower by more than that cannot be the fastest.
SCREENING_NOISE = 1.06
# And one of the race by this.
RACE_NOISE = 1.04
# Outputs whose distance from float's differs by less are as near.
SAME_DB = 2.0


def surely_slower(state: SearchState, name: str, best: str) -> bool:
    """Whether the upper end of what a candidate may gain is below what another one gains; only latency has such ends."""
    ends = state.lineup.figures[name].speedup_ci
    return state.wish.optimize != "latency" or ends is None or ends[1] < gain(state, best)


def running(state: SearchState) -> list[str]:
    """Names of those that neither failed nor were left, float not among them."""
    return [name for name in state.lineup.alive if name not in state.lineup.left]


def best_of(state: SearchState) -> str | None:
    """The fastest of those that are accurate enough."""
    return next((name for name in fastest_first(state, running(state)) if is_accurate(state, name)), None)


def fastest_first(state: SearchState, names: Sequence[str]) -> list[str]:
    """Names by what they gain, the most first."""
    return sorted(names, key=lambda name: -gain(state, name))


def leaders(state: SearchState, names: Sequence[str]) -> list[str]:
    """Of some candidates those as fast as the fastest within the noise of some rounds, the nearest to float's outputs first.

    Which of them seems the fastest changes from one run to the next; how near they are to float does not, nor do their names.
    """
    most = max((gain(state, name) for name in names), default=0.0)
    equal = [name for name in names if gain(state, name) * RACE_NOISE >= most]

    def steps(name: str) -> float:
        nearness = state.lineup.tried(name).nearness
        return nearness // SAME_DB if isfinite(nearness) else nearness

    return sorted(equal, key=lambda name: (-steps(name), name))


def gain(state: SearchState, name: str) -> float:
    """How much a candidate gains of what is to be gained, over float."""
    own, floats, optimize = state.lineup.figures[name], state.lineup.figures[FLOAT], state.wish.optimize
    gains: dict[str, Callable[[], float]] = {
        "latency": lambda: own.speedup or 0.0,
        "size": lambda: (floats.size_bytes or 0) / (own.size_bytes or 1),
        "memory": lambda: (floats.peak_rss_bytes or 0) / (own.peak_rss_bytes or 1),
        "instructions": lambda: (floats.instructions or 0) / own.instructions if own.instructions else 0.0,
    }
    return gains[optimize]()


def is_hopeless(state: SearchState, name: str) -> bool:
    """Whether a candidate's outputs have nothing to do with float's."""
    decibels = state.lineup.figures[name].sqnr_db
    return decibels is not None and decibels < HOPELESS_DB


def ratio(state: SearchState, name: str) -> str:
    """What a candidate gains, in words: its speed-up with its interval, or its instructions over float's."""
    figures = state.lineup.figures[name]
    if state.wish.optimize == "instructions":
        return f"{1 / max(gain(state, name), 1e-9):.2f}× the instructions of float"
    low, high = figures.speedup_ci or (0.0, 0.0)
    return f"{figures.speedup or 0.0:.2f}× [{low:.2f}, {high:.2f}]"


def leave(state: SearchState, name: str, reason: str, status: Literal["beaten", "rejected"] = "beaten") -> None:
    """Leaves a candidate, for its first reason."""
    state.lineup.left.setdefault(name, Left(status, reason))
