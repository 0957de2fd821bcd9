"""The host lab: this machine's own processor."""

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np

from edgekit.recipe import Arrays
from edgekit_runtime.fresh_process import FreshRun, run_in_fresh_process
from edgekit_runtime.model import Model
from edgekit_runtime.session import Provider, SessionConfig, open_session
from edgekit_runtime.timing import Timings, interleave

__all__ = ["HostLab"]

FRESH_RUNS = 3


class HostLab:
    """Opens and times candidates on this machine.

    Args:
        seed: Seed of the order within timing rounds.
        exact: Compute quantized graphs in exact integer semantics, for targets other than this machine: nothing is fused into
            this processor's integer kernels, whose sums may saturate where the target's do not.
    """

    def __init__(self, seed: int = 0, *, exact: bool = False) -> None:
        self._seed = seed
        self._exact = exact

    def open(self, path: Path, provider: Provider, session: SessionConfig) -> Model:
        """Opens a candidate for evaluation."""
        if self._exact:
            provider, session = Provider(), SessionConfig(session.threads, "basic", session.entries)
        return Model(open_session(path, provider, session), path)

    def fresh(self, path: Path, feed: Arrays, provider: Provider, session: SessionConfig, runs: int = FRESH_RUNS) -> FreshRun:
        """Opens and runs a candidate in processes of their own, and takes medians; the first run is its load test.

        Raises:
            SessionError: It does not load or run there.
        """
        provider = Provider() if self._exact else provider
        seen = [run_in_fresh_process(path, feed, provider, session) for _ in range(runs)]
        peaks = [run.peak_rss_bytes for run in seen if run.peak_rss_bytes is not None]
        return FreshRun(median(run.cold_start_ms for run in seen), int(median(peaks)) if peaks else None)

    def time(
        self,
        models: Mapping[str, Model],
        feed: Arrays,
        rounds: int,
        on_round: Callable[[int, int], None] | None = None,
    ) -> dict[str, Timings]:
        """Times models against each other in interleaved rounds."""
        calls: dict[str, Callable[[], object]] = {name: _call(model, feed) for name, model in models.items()}
        return interleave(calls, rounds=rounds, seed=self._seed, on_round=on_round)


def _call(model: Model, feed: Arrays) -> Callable[[], Mapping[str, np.ndarray]]:
    return lambda: model(feed)
