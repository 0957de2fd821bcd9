"""Correcting: ways to bring a static candidate's outputs nearer to float's that cost nothing on the device.

Other calibration methods first, which are quick to try, then learned rounding of the best of them, or bias correction where there
is no time for that. What does not come nearer is left.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.candidates import Candidate, static_part, with_static_part
from edgekit.lineup import FLOAT
from edgekit.search.entering import enter
from edgekit.search.standing import leave
from edgekit.search.state import SearchState

if TYPE_CHECKING:
    from edgekit_export import StaticInt8
    from edgekit_export.calibration import Method
    from edgekit_export.schemes import Correction

__all__ = ["enter_corrected", "seconds_to_round"]

# Learned rounding on the sample, over running the float model on it: what EfficientNet-Lite0 takes on two cores.
ROUNDING_OVER_RUNNING = 35.0
# Nearer by less is not worth another candidate.
NEARER_DB = 0.5
STAGE = "corrections"


def enter_corrected(state: SearchState, name: str, *, reserve_s: float) -> list[str]:
    """Takes in corrected forms of a candidate for which there is time; gives the names of those that are nearer to float.

    Args:
        state: The search.
        name: The candidate; one without a static part, or that is corrected already, has none.
        reserve_s: Seconds of the budget that must be left to begin one.
    """
    scheme = static_part(state.lineup.built[name].candidate)
    if scheme is None or scheme.corrections:
        return []
    nearer = _tried(state, name, [_with_method(state, name, method) for method in _methods(state, scheme)], reserve_s)
    base = nearer[-1] if nearer else name
    slow: Sequence[tuple[Correction, ...]] = (
        (("smoothed",), ("smoothed", "rounded")) if scheme.outputs == "float" else (("rounded",),)
    )
    for rung in slow if state.left_s > reserve_s + seconds_to_round(state) else (("debiased",),):
        found = _tried(state, base, [_with_corrections(state, base, rung)], reserve_s + len(rung) * seconds_to_round(state) / 2)
        if found and base != name:
            _leave(state, base, found[-1])
        nearer, base = [*nearer, *found], found[-1] if found else base
    return nearer[-1:]


def seconds_to_round(state: SearchState) -> float:
    """About how long learned rounding will take: it looks at what every layer reads, on all feeds of the sample."""
    latency_ms = state.lineup.figures[FLOAT].latency_ms or 1.0
    return ROUNDING_OVER_RUNNING * len(state.sample) * latency_ms / 1e3


def _tried(state: SearchState, name: str, candidates: Sequence[Candidate], reserve_s: float) -> list[str]:
    """Of some forms of a candidate those that are each nearer to float than it and the ones before; the last is the nearest."""
    best, nearer = name, []
    for one in enter(state, candidates, STAGE, reserve_s=reserve_s):
        known, own = _decibels(state, best), _decibels(state, one)
        if own >= known + NEARER_DB:
            nearer.append(one)
            if best != name:
                _leave(state, best, one)
            best = one
        else:
            _leave(state, one, best)
    return nearer[-1:]


def _leave(state: SearchState, name: str, better: str) -> None:
    own, known = _decibels(state, name), _decibels(state, better)
    leave(state, name, f"the same nodes as {better}, and no nearer to float's outputs: {own:.1f} dB SQNR against {known:.1f} dB")


def _decibels(state: SearchState, name: str) -> float:
    return state.lineup.figures[name].sqnr_db or 0.0


def _methods(state: SearchState, scheme: "StaticInt8") -> "list[Method]":
    from edgekit_export import METHODS

    return [
        method for method in METHODS if method in state.wish.target.methods and method != scheme.method and not scheme.flavour.wide
    ]


def _with_method(state: SearchState, name: str, method: "Method") -> Candidate:
    candidate = state.lineup.built[name].candidate
    return with_static_part(candidate, replace(_static(candidate), method=method))


def _with_corrections(state: SearchState, name: str, corrections: "tuple[Correction, ...]") -> Candidate:
    candidate = state.lineup.built[name].candidate
    return with_static_part(candidate, replace(_static(candidate), corrections=corrections))


def _static(candidate: Candidate) -> "StaticInt8":
    part = static_part(candidate)
    assert part is not None  # or there is nothing to correct
    return part
