"""Entering: a candidate is built, loaded in a process of its own, and compared with the float model on a few feeds."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekit.building import Built, Made, placed_alike, suits, write_candidate
from edgekit.candidates import Candidate
from edgekit.deployment import ErrorHistogram
from edgekit.lineup import FLOAT
from edgekit.measuring_accuracy import compare
from edgekit.search.state import SearchState
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["Loaded", "build", "enter", "identity", "load"]


class Loaded(msgspec.Struct, frozen=True):
    """What a process of its own saw of a candidate.

    Attributes:
        failure: Why it does not load or run; ``None`` where it does.
        size_bytes: Its files.
        peak_rss_bytes: Peak memory of that process.
        cold_start_ms: From opening to the first output.
    """

    failure: str | None = None
    size_bytes: int | None = None
    peak_rss_bytes: int | None = None
    cold_start_ms: float | None = None


class Compared(msgspec.Struct, frozen=True):
    """A candidate's outputs against float's.

    Attributes:
        failure: Why they cannot be compared.
        max_abs_diff: Their largest difference.
        sqnr_db: Signal to noise.
        errors: Distributions.
    """

    failure: str | None = None
    max_abs_diff: float | None = None
    sqnr_db: float | None = None
    errors: list[ErrorHistogram] = []


def identity(built: Built) -> tuple[str, Provider, SessionConfig]:
    """What figures of a candidate belong to: its file's content, the provider and the session options."""
    return built.sha256, built.candidate.provider, built.candidate.session


def build(state: SearchState, candidate: Candidate) -> Built:
    """A candidate with its file, or with the reason why there is none."""

    def write(path: Path) -> Made:
        return write_candidate(state.source.prepared, candidate, state.statistics, state.sample, path)

    details = repr(candidate.scheme), candidate.provider.name
    path, made, sha = state.ledger.build(f"build {candidate.scheme.name}", details, write, Made)
    return Built(candidate, path if made.failure is None else None, made.kind, made.notes, made.failure, sha)


def enter(state: SearchState, candidates: Sequence[Candidate], stage: str, *, reserve_s: float = 0.0) -> list[str]:
    """Takes candidates into the lineup; gives the names of those that load, run, and give outputs to compare.

    One that names no node of the graph, or comes to what is in the lineup already, is left out.

    Args:
        state: The search.
        candidates: Whom, the most promising first.
        stage: What the stage is called.
        reserve_s: Seconds of the budget that must be left for a candidate to be begun.
    """
    state.progress.stage(f"{stage}: build, load and compare {len(candidates)} candidates")
    entered = []
    for index, candidate in enumerate(candidates):
        if state.left_s < reserve_s:
            break
        if candidate.name not in state.lineup.built and _is_new(state, candidate):
            built = build(state, candidate)
            state.lineup.add(built, stage)
            if built.failure is not None:
                state.lineup.fail(built.name, built.failure)
            elif load(state, built) and compare_outputs(state, built):
                entered.append(built.name)
        state.progress.advance(index + 1, len(candidates))
    return entered


def load(state: SearchState, built: Built, starts: int = 1) -> bool:
    """Loads and runs a candidate in processes of its own; says whether it survived that.

    Args:
        state: The search.
        built: The candidate.
        starts: How many processes, of which medians are taken: one shows whether it loads.
    """

    def measure() -> Loaded:
        assert built.path is not None  # it was built
        loaded: list[Loaded] = []
        with state.lineup.attempt(built.name, "load"):
            candidate = built.candidate
            fresh = state.lab.fresh(built.path, state.source.example, candidate.provider, candidate.session, starts)
            state.lineup.model(built.name)(state.source.example)
            loaded.append(Loaded(None, size_bytes(built.path), fresh.peak_rss_bytes, fresh.cold_start_ms))
        return loaded[0] if loaded else Loaded(state.lineup.failures[built.name])

    loaded = state.ledger.remember(f"load {built.name}", (*identity(built), starts), measure, Loaded)
    if loaded.failure is not None:
        state.lineup.fail(built.name, loaded.failure)
        return False
    state.lineup.update(built.name, size_bytes=loaded.size_bytes)
    if not state.lab.exact:
        state.lineup.update(built.name, peak_rss_bytes=loaded.peak_rss_bytes, cold_start_ms=loaded.cold_start_ms)
    return True


def compare_outputs(state: SearchState, built: Built) -> bool:
    """Fills in how far outputs are from float's; says whether they can be compared at all."""
    if built.name == FLOAT:
        state.lineup.update(FLOAT, max_abs_diff=0.0)
        return True

    def measure() -> Compared:
        found: list[Compared] = []
        with state.lineup.attempt(built.name, "compare outputs"):
            model = state.lineup.model(built.name)
            found.append(Compared(*compare([model(feed) for feed in state.feeds], state.outputs, built.name)))
        return found[0] if found else Compared(state.lineup.failures[built.name])

    details = (*identity(built), state.evaluated, len(state.feeds))
    found = state.ledger.remember(f"compare {built.name}", details, measure, Compared)
    if found.failure is not None:
        state.lineup.fail(built.name, found.failure)
        return False
    state.lineup.update(built.name, max_abs_diff=found.max_abs_diff, sqnr_db=found.sqnr_db)
    state.lineup.errors[built.name] = found.errors
    return True


def _is_new(state: SearchState, candidate: Candidate) -> bool:
    """Whether the graph has what the scheme is for, and nothing in the lineup is the same under another name."""
    from edgekit_export import Float32

    if not isinstance(candidate.scheme, Float32) and not suits(state.source.prepared, candidate.scheme):
        return False
    key = (placed_alike(state.source.prepared, candidate.scheme, state.statistics), candidate.provider, candidate.session)
    if key in state.seen:
        return False
    state.seen.append(key)
    return True
