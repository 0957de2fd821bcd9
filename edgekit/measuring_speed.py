"""Measuring candidates in a lab: whether they load at all, memory, cold start, latency."""

from collections.abc import Sequence
from typing import Any

from edgekit.building import Built
from edgekit.labs.host import CallFailedError, HostLab
from edgekit.lineup import FLOAT, Lineup
from edgekit.progress import Progress
from edgekit.recipe import Arrays
from edgekit.verdict import accuracy_gate
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.timing import Timings, speedup

__all__ = ["clearly_slower", "confirm", "load_all", "screen_all", "time_promising"]

ROUNDS = 25
CONFIRMATION_ROUNDS = 50
# What is clearly slower than float after a few rounds is not timed in the others: its interval says how sure that is.
SCREENING_ROUNDS = 5
CLEARLY_SLOWER = 0.9
# One fresh process shows whether a candidate loads, and about how long that takes; what ships gets the median of several.
CONFIRMATION_STARTS = 3


def load_all(lineup: Lineup, built: Sequence[Built], feed: Arrays, lab: HostLab, progress: Progress) -> None:
    """Opens candidates in processes of their own, and those that survive it in this one."""
    for index, one in enumerate(built):
        lineup.add(one)
        if one.path is None:
            lineup.fail(one.name, one.failure or "it was not built")
        else:
            with lineup.attempt(one.name, "load"):
                fresh = lab.fresh(one.path, feed, one.candidate.provider, one.candidate.session)
                model = lab.open(one.path, one.candidate.provider, one.candidate.session)
                model(feed)
                lineup.models[one.name] = model
                lineup.update(one.name, size_bytes=size_bytes(one.path))
                if not lab.exact:
                    lineup.update(one.name, peak_rss_bytes=fresh.peak_rss_bytes, cold_start_ms=fresh.cold_start_ms)
        progress.advance(index + 1, len(built))


def screen_all(lineup: Lineup, feed: Arrays, lab: HostLab, progress: Progress) -> None:
    """Times all open models in a few interleaved rounds and fills in latency and speed-up."""
    progress.stage(f"time {len(lineup.models)} models in {SCREENING_ROUNDS} interleaved rounds")
    _time(lineup, list(lineup.models), feed, lab, SCREENING_ROUNDS, progress)


def clearly_slower(lineup: Lineup, name: str) -> bool:
    """Whether a candidate cannot win on latency, so that it need not be measured any further."""
    interval = lineup.figures[name].speedup_ci
    return interval is not None and interval[1] < CLEARLY_SLOWER


def time_promising(lineup: Lineup, max_drop: float, feed: Arrays, lab: HostLab, progress: Progress) -> None:
    """Times those that may still win in as many rounds as a verdict needs; the others' figures stay those of the screening."""
    baseline = lineup.tried(FLOAT)
    names = [
        name
        for name in lineup.models
        if name != FLOAT and not clearly_slower(lineup, name) and accuracy_gate(lineup.tried(name), baseline, max_drop) is None
    ]
    if names:
        progress.stage(f"time {FLOAT} and the {len(names)} that may win in {ROUNDS} interleaved rounds")
        _time(lineup, [FLOAT, *names], feed, lab, ROUNDS, progress)
    undecided = _undecided(lineup, names)
    if undecided:
        progress.stage(f"time {FLOAT} and the {len(undecided)} still undecided in {CONFIRMATION_ROUNDS} more rounds")
        _time(lineup, [FLOAT, *undecided], feed, lab, CONFIRMATION_ROUNDS, progress)


def _undecided(lineup: Lineup, names: Sequence[str]) -> list[str]:
    """Candidates that look faster than float, where a noisy spell leaves none that is so beyond doubt.

    They get more rounds rather than the benefit of the doubt: a winner is confirmed in fresh rounds all the same.
    """
    intervals = {name: lineup.figures[name].speedup_ci for name in names if name in lineup.models}
    if any(interval and interval[0] > 1.0 for interval in intervals.values()):
        return []
    return [name for name in intervals if (lineup.figures[name].speedup or 0.0) > 1.0]


def confirm(lineup: Lineup, name: str, feed: Arrays, lab: HostLab, progress: Progress) -> None:
    """Times one candidate against float once more, in rounds and processes of their own.

    The fastest of many was picked partly for its luck; figures from fresh rounds are free of that.
    """
    progress.stage(f"confirm {name} against {FLOAT} in {CONFIRMATION_ROUNDS} fresh rounds")
    _time(lineup, [FLOAT, name], feed, lab, CONFIRMATION_ROUNDS, progress)
    _start_again(lineup, FLOAT, feed, lab)
    if name not in lineup.failures:
        with lineup.attempt(name, "load"):
            _start_again(lineup, name, feed, lab)


def _start_again(lineup: Lineup, name: str, feed: Arrays, lab: HostLab) -> None:
    built = lineup.built[name]
    assert built.path is not None  # it is open, so it was built
    fresh = lab.fresh(built.path, feed, built.candidate.provider, built.candidate.session, CONFIRMATION_STARTS)
    lineup.update(name, peak_rss_bytes=fresh.peak_rss_bytes, cold_start_ms=fresh.cold_start_ms)


def _time(lineup: Lineup, names: Sequence[str], feed: Arrays, lab: HostLab, rounds: int, progress: Progress) -> None:
    """Times models against each other, without those that fail meanwhile, and fills in latency and speed-up."""
    while True:
        models = {name: lineup.models[name] for name in names if name in lineup.models}
        try:
            timings = lab.time(models, feed, rounds, progress.advance)
            break
        except CallFailedError as failure:
            if failure.name == FLOAT:
                raise failure.reason from failure
            with lineup.attempt(failure.name, "run"):
                raise failure.reason from failure
    for name, own in timings.items():
        lineup.update(name, **_latency(timings[FLOAT], own, same=name == FLOAT))


def _latency(baseline: Timings, own: Timings, *, same: bool) -> dict[str, Any]:
    ratio = speedup(baseline, own)
    return {
        "latency_ms": own.median_ms,
        "latency_p99_ms": own.p99_ms,
        "speedup": 1.0 if same else ratio.value,
        "speedup_ci": (1.0, 1.0) if same else ratio.interval,
    }
