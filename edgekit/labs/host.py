"""The host lab: this machine's own processor."""

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import msgspec

from edgekit.recipe import Arrays
from edgekit_runtime.fresh_process import FreshRun, run_in_fresh_process
from edgekit_runtime.model import Model
from edgekit_runtime.session import Provider, SessionConfig, open_session
from edgekit_runtime.timing import Timings, interleave

__all__ = ["CallFailedError", "HostLab"]

# Known to onnxruntime on x86 only, and without effect where nothing saturates.
PRECISE = {"session.x64quantprecision": "1"}


class CallFailedError(Exception):
    """A model failed while it was being timed.

    Args:
        name: Which one.
        reason: What it raised.
    """

    def __init__(self, name: str, reason: Exception) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class HostLab:
    """Opens and times candidates on this machine.

    Args:
        seed: Seed of the order within timing rounds.
        exact: Compute quantized graphs without saturation, for targets other than this machine: on x86 without VNNI
            onnxruntime's default kernels saturate where the target's do not, and its precise ones are taken instead. They agree
            with unfused integer semantics up to rounding. Times and memory then say nothing of the target.
    """

    def __init__(self, seed: int = 0, *, exact: bool = False) -> None:
        self._seed = seed
        self.exact = exact

    def open(self, path: Path, provider: Provider, session: SessionConfig) -> Model:
        """Opens a candidate for evaluation."""
        provider, session = self._here(provider, session)
        return Model(open_session(path, provider, session), path)

    def fresh(self, path: Path, feed: Arrays, provider: Provider, session: SessionConfig, runs: int = 1) -> FreshRun:
        """Opens and runs a candidate in processes of their own, and takes medians; the first run is its load test.

        Raises:
            SessionError: It does not load or run there.
        """
        provider, session = self._here(provider, session)
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
        """Times models against each other in interleaved rounds.

        Raises:
            CallFailedError: One of them failed; says which.
        """
        calls = {name: _call(name, model, feed) for name, model in models.items()}
        return interleave(calls, rounds=rounds, seed=self._seed, on_round=on_round)

    def _here(self, provider: Provider, session: SessionConfig) -> tuple[Provider, SessionConfig]:
        """What stands in on this machine for a target's provider and session options."""
        if not self.exact:
            return provider, session
        return Provider(), msgspec.structs.replace(session, entries={**session.entries, **PRECISE})


def _call(name: str, model: Model, feed: Arrays) -> Callable[[], object]:
    def call() -> object:
        try:
            return model(feed)
        except Exception as error:
            raise CallFailedError(name, error) from error

    return call
