"""Heats: candidates timed against float and each other, a few at a time."""

from collections.abc import Sequence

import msgspec

from edgekit.labs.host import CallFailedError
from edgekit.lineup import FLOAT
from edgekit.search.entering import identity
from edgekit.search.state import SearchState
from edgekit_runtime.measurement import Interval
from edgekit_runtime.timing import Timings, speedup

__all__ = ["AT_ONCE", "SCREENING_ROUNDS", "heat", "heats", "seconds_of"]

SCREENING_ROUNDS = 5
# Timed together with float; more would keep a round from being short against the machine's moods.
AT_ONCE = 5
# What a round takes besides the calls: rests in which threads of the model before come to a stop.
REST_S = 0.065
SLOT_S = 0.012
WARM_UP_CALLS = 1
LEAST_CALLS = 3


class Latency(msgspec.Struct, frozen=True):
    """One candidate's times in a heat, against float's in the same rounds."""

    latency_ms: float
    latency_p99_ms: float
    speedup: float
    speedup_ci: Interval


class Heat(msgspec.Struct, frozen=True):
    """What a heat came to: times by name, and the reasons of those that failed in it."""

    times: dict[str, Latency]
    failures: dict[str, str] = {}


def heats(state: SearchState, names: Sequence[str]) -> None:
    """Times candidates against float in short heats of a few, and fills in latency and speed-up."""
    for first in range(0, len(names), AT_ONCE):
        heat(state, names[first : first + AT_ONCE], SCREENING_ROUNDS)


def heat(state: SearchState, names: Sequence[str], rounds: int, occasion: str = "") -> None:
    """Times candidates and float in interleaved rounds; one that fails in them has failed, and the others are timed anew.

    Args:
        state: The search.
        names: Candidates, float not among them.
        rounds: How many rounds.
        occasion: Tells heats of the same candidates from each other.
    """
    names = [name for name in names if name not in state.lineup.failures]
    if not names:
        return
    taking = [FLOAT, *names]

    def measure() -> Heat:
        failures: dict[str, str] = {}
        state.progress.stage(f"time {', '.join(taking)} in {rounds} interleaved rounds")
        state.lineup.close_all()
        while True:
            models = {name: state.lineup.model(name) for name in taking if name not in failures}
            try:
                timings = state.lab.time(models, state.source.example, rounds, state.progress.advance)
                break
            except CallFailedError as failed:
                if failed.name == FLOAT:
                    raise failed.reason from failed
                failures[failed.name] = f"run: {type(failed.reason).__name__}: {' '.join(str(failed.reason).split())[:300]}"
        state.lineup.close_all()
        return Heat({name: _latency(timings[FLOAT], own, same=name == FLOAT) for name, own in timings.items()}, failures)

    details = (rounds, state.wish.seed, occasion, [identity(state.lineup.built[name]) for name in taking])
    found = state.ledger.remember(f"time {', '.join(taking)}", details, measure, Heat)
    for name, reason in found.failures.items():
        state.lineup.fail(name, reason)
    for name, latency in found.times.items():
        state.lineup.update(name, **msgspec.structs.asdict(latency))


def seconds_of(state: SearchState, names: Sequence[str], rounds: int) -> float:
    """About how long a heat would take, from what is known of the candidates' latencies."""
    known = [state.lineup.figures[name].latency_ms or state.lineup.figures[FLOAT].latency_ms or 1.0 for name in (FLOAT, *names)]
    return rounds * sum(REST_S + max(SLOT_S, (LEAST_CALLS + WARM_UP_CALLS) * latency / 1e3) for latency in known)


def _latency(baseline: Timings, own: Timings, *, same: bool) -> Latency:
    ratio = speedup(baseline, own)
    return Latency(own.median_ms, own.p99_ms, 1.0 if same else ratio.value, (1.0, 1.0) if same else ratio.interval)
