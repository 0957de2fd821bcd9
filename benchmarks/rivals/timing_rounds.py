"""Timing processes against each other: in every round each is asked once, in a fresh random order, while the others sleep."""

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.rivals.workers import Worker, WorkerError

__all__ = ["take_rounds"]

SLOT_MS = 30.0
MOST_CALLS = 200
HOPELESS = 4.0
"""Times the baseline's latency, from where on one call a round will do: ``quantize_dynamic`` takes ten times on convolutions."""


def take_rounds(
    workers: Mapping[str, Worker], baseline: str, rounds: int, on_round: Callable[[int], None], seed: int = 0
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Times workers in interleaved rounds.

    Args:
        workers: By name, each with its model open.
        baseline: The name of the one that tells which are hopelessly slow.
        rounds: How many.
        on_round: Told how many are done.
        seed: Seed of the order within rounds.

    Returns:
        The median milliseconds of each round by name, and the reasons of those that failed on the way.
    """
    failures: dict[str, str] = {}
    medians: dict[str, list[float]] = {name: [] for name in workers}

    def timed(name: str, calls: int) -> list[float]:
        try:
            return workers[name].time(calls)
        except WorkerError as error:
            failures[name] = str(error)
            return []

    fastest = {name: min(timed(name, 3), default=0.0) for name in workers}
    calls = {name: _calls(spent, fastest[baseline]) for name, spent in fastest.items()}
    order = np.random.default_rng(seed)
    names = list(workers)
    for done in range(rounds):
        for name in (names[place] for place in order.permutation(len(names))):
            if name not in failures and (spent := timed(name, calls[name])):
                medians[name].append(float(np.median(spent)))
        on_round(done + 1)
    return {name: found for name, found in medians.items() if name not in failures}, failures


def _calls(fastest_ms: float, baseline_ms: float) -> int:
    if fastest_ms > HOPELESS * baseline_ms:
        return 1
    return int(np.clip(SLOT_MS / max(fastest_ms, 1e-3), 3, MOST_CALLS))
