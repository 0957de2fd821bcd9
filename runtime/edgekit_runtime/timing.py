"""Measuring time on a shared machine: rounds that interleave the models, and ratios with an interval.

Each round times every model once, in a fresh random order, so that a slow spell of the machine falls on all of them.
A speed-up is a ratio of medians; its interval is a percentile bootstrap over whole rounds (Efron and Tibshirani, *An
Introduction to the Bootstrap*, 1993), which keeps the pairing within a round.
"""

from collections.abc import Callable, Mapping
from time import perf_counter_ns, sleep

import msgspec
import numpy as np

from edgekit_runtime.errors import InputError
from edgekit_runtime.measurement import Interval

__all__ = ["SETTLE_MS", "Ratio", "Timings", "interleave", "speedup"]

RESAMPLES = 2000
# onnxruntime's threads spin for about 25 ms after a call, waiting for the next one. Where several models are open and there are
# no more cores than threads, those of the last model take a core from this one: on two cores that doubled latencies at random.
SETTLE_MS = 60.0
WARM_UP_MS = 2.0


class Ratio(msgspec.Struct, frozen=True):
    """A ratio with its 95 % interval."""

    value: float
    interval: Interval


class Timings:
    """Times of one model, in milliseconds, as an array of (rounds, calls)."""

    def __init__(self, calls_ms: np.ndarray) -> None:
        self.calls_ms = calls_ms

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return len(self.calls_ms)

    @property
    def median_ms(self) -> float:
        """Median of the rounds' medians: one slow spell cannot carry it, and `speedup` is a ratio of exactly these."""
        return float(np.median(np.median(self.calls_ms, axis=1)))

    @property
    def p99_ms(self) -> float:
        """99th percentile over all calls."""
        return float(np.percentile(self.calls_ms, 99))


def interleave(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 25,
    slot_ms: float = 10.0,
    settle_ms: float = SETTLE_MS,
    seed: int = 0,
    on_round: Callable[[int, int], None] | None = None,
) -> dict[str, Timings]:
    """Times several calls against each other.

    Args:
        calls: What to time, by name.
        rounds: How many rounds.
        slot_ms: How long each is called within one round, at least three times, after calls that are not counted.
        settle_ms: Pause before each of several calls, in which the threads of the one before come to rest.
        seed: Seed of the order within rounds.
        on_round: Told the rounds done and the rounds in all.

    Raises:
        InputError: `rounds` is below 1.
    """
    if rounds < 1:
        raise InputError(f"measure latency: rounds={rounds}, expected 1 or more")
    repeats = {name: _repeats(call, slot_ms) for name, call in calls.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in calls}
    order = np.random.default_rng(seed)
    names = list(calls)
    for done in range(rounds):
        for name in (names[index] for index in order.permutation(len(names))):
            call = calls[name]
            if len(calls) > 1:
                sleep(settle_ms / 1e3)
            _warm_up(call)
            slot = []
            for _ in range(repeats[name]):
                start = perf_counter_ns()
                call()
                slot.append((perf_counter_ns() - start) / 1e6)
            times[name].append(slot)
        if on_round:
            on_round(done + 1, rounds)
    return {name: Timings(np.asarray(slots)) for name, slots in times.items()}


def _warm_up(call: Callable[[], object]) -> None:
    """Calls for a few milliseconds, at least once: after a pause the first calls find cold caches and sleeping threads."""
    start = perf_counter_ns()
    call()
    while perf_counter_ns() - start < WARM_UP_MS * 1e6:
        call()


def speedup(baseline: Timings, other: Timings, seed: int = 0) -> Ratio:
    """How many times faster `other` is than `baseline`, from the same rounds."""
    if baseline.rounds != other.rounds:
        raise ValueError(f"speedup: {baseline.rounds} rounds against {other.rounds}; time both in one interleave()")
    draws = np.random.default_rng(seed).integers(0, baseline.rounds, (RESAMPLES, baseline.rounds))
    # The median of a resample is taken over its rounds' medians: one slow call cannot carry a round.
    slow, fast = (np.median(timings.calls_ms, axis=1)[draws] for timings in (baseline, other))
    ratios = np.median(slow, axis=1) / np.median(fast, axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    value = baseline.median_ms / other.median_ms
    # With a handful of rounds the percentiles can miss the value itself: an interval holds what it is an interval of.
    return Ratio(value, (min(float(low), value), max(float(high), value)))


def _repeats(call: Callable[[], object], slot_ms: float) -> int:
    """Calls that fill a slot, from the quickest of three after a warm-up."""
    call()
    spent = []
    for _ in range(3):
        start = perf_counter_ns()
        call()
        spent.append((perf_counter_ns() - start) / 1e6)
    return int(np.clip(slot_ms / max(min(spent), 1e-3), 3, 500))
