"""Measuring candidates in a lab: whether they load at all, memory, cold start, latency."""

from collections.abc import Sequence
from typing import Any

from edgekit.building import Built
from edgekit.labs.host import CallFailedError, HostLab
from edgekit.lineup import FLOAT, Lineup
from edgekit.progress import Progress
from edgekit.recipe import Arrays
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.measurement import Interval
from edgekit_runtime.timing import Timings, speedup

__all__ = ["confirm", "load_all", "time_all"]

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


def time_all(lineup: Lineup, feed: Arrays, lab: HostLab, progress: Progress) -> None:
    """Times all open models in interleaved rounds and fills in latency and speed-up."""
    progress.stage(f"time {len(lineup.models)} models in {SCREENING_ROUNDS} interleaved rounds")
    screened = _time(lineup, list(lineup.models), feed, lab, SCREENING_ROUNDS, progress)
    kept = [name for name, interval in screened.items() if name == FLOAT or interval[1] >= CLEARLY_SLOWER]
    if len(kept) > 1:
        progress.stage(f"time the {len(kept)} that are not clearly slower than float in {ROUNDS} interleaved rounds")
        _time(lineup, kept, feed, lab, ROUNDS, progress)


def confirm(lineup: Lineup, name: str, feed: Arrays, lab: HostLab, progress: Progress) -> None:
    """Times one candidate against float once more, in rounds and processes of their own.

    The fastest of many was picked partly for its luck; figures from fresh rounds are free of that.
    """
    progress.stage(f"confirm {name} against {FLOAT} in {CONFIRMATION_ROUNDS} fresh rounds")
    _time(lineup, [FLOAT, name], feed, lab, CONFIRMATION_ROUNDS, progress)
    for key in (FLOAT, name):
        built = lineup.built[key]
        if built.path is None or key in lineup.failures:
            continue
        with lineup.attempt(key, "load"):
            fresh = lab.fresh(built.path, feed, built.candidate.provider, built.candidate.session, CONFIRMATION_STARTS)
            lineup.update(key, peak_rss_bytes=fresh.peak_rss_bytes, cold_start_ms=fresh.cold_start_ms)


def _time(
    lineup: Lineup, names: Sequence[str], feed: Arrays, lab: HostLab, rounds: int, progress: Progress
) -> dict[str, Interval]:
    """Times models against each other, without those that fail meanwhile; gives the intervals of their speed-ups."""
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
    return {name: lineup.figures[name].speedup_ci or (0.0, 0.0) for name in timings}


def _latency(baseline: Timings, own: Timings, *, same: bool) -> dict[str, Any]:
    ratio = speedup(baseline, own)
    return {
        "latency_ms": own.median_ms,
        "latency_p99_ms": own.p99_ms,
        "speedup": 1.0 if same else ratio.value,
        "speedup_ci": (1.0, 1.0) if same else ratio.interval,
    }
