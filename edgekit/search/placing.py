"""Placing: of the best schemes, variants that leave in float what is faster, or too inaccurate, in integers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import msgspec

from edgekit.building import Built
from edgekit.candidates import Candidate, static_part, static_scheme, with_static_part
from edgekit.lineup import FLOAT
from edgekit.placing.dividing import Divisible, decibels_to_share, measure_division
from edgekit.search.entering import enter, identity
from edgekit.search.state import SearchState

__all__ = ["mixed", "place", "place_within"]

# A division is worth trying if it promises this much more than what it is made from.
WORTH = 0.99
# Examples that errors of single nodes are measured on, and seconds that this may take.
NOISE_FEEDS = 4


class Spared(msgspec.Struct, frozen=True):
    """Nodes to leave in float, and what the graph takes then, in float, and wholly in integers, in microseconds."""

    nodes: tuple[str, ...]
    predicted_us: float
    float_us: float
    integer_us: float


def place(state: SearchState, names: Sequence[str], *, reserve_s: float) -> list[str]:
    """Divides each of some candidates by time; gives the names of the new candidates that came of it.

    Args:
        state: The search.
        names: Candidates in a static scheme.
        reserve_s: Seconds of the budget that must be left to begin one.
    """
    entered = []
    for name in names:
        if state.left_s < reserve_s:
            break
        found = state.try_extra(name, "placing it by time", partial(_divided, state, name), Spared((), 0.0, 0.0, 0.0))
        if found.nodes and found.predicted_us < WORTH * min(found.integer_us, found.float_us):
            candidate = state.lineup.built[name].candidate
            divided = replace(candidate, scheme=replace(static_scheme(candidate), spared=found.nodes))
            for new in enter(state, [divided], "placement by time"):
                state.lineup.notes[new].append(_told(found))
                entered.append(new)
    return entered


def _divided(state: SearchState, name: str) -> Spared:
    built = state.lineup.built[name]

    def measure() -> Spared:
        state.progress.stage(f"profile {name} and {FLOAT} node by node")
        divisible = _divisible(state, built)
        division = divisible.fastest()
        return Spared(division.spared, division.predicted_us, divisible.all_float_us, divisible.all_integer_us)

    return state.ledger.remember(f"place {name}", (identity(built), identity(state.lineup.built[FLOAT])), measure, Spared)


def place_within(
    state: SearchState, name: str, decibels: Sequence[float], *, reserve_s: float, corrected: str | None = None
) -> list[str]:
    """Divides a static candidate by time and by error, once for each SQNR that its outputs shall reach.

    Args:
        state: The search.
        name: The candidate.
        decibels: The SQNRs.
        reserve_s: Seconds of the budget that must be left to begin.
        corrected: A corrected form of it, whose corrections the new ones get: what these win is asked for less.
    """
    built = state.lineup.built[name]
    if state.left_s < reserve_s:
        return []
    form = static_scheme(state.lineup.built[corrected or name].candidate)
    figures = state.lineup.figures
    won = (figures[corrected or name].sqnr_db or 0.0) - (figures[name].sqnr_db or 0.0)
    asked = tuple(round(wanted - won, 2) for wanted in decibels)

    def measure() -> list[Spared]:
        state.progress.stage(f"measure what each node of {name} costs in accuracy")
        divisible, noise = _divisible(state, built), _noise(state, built)
        found: list[Spared] = []
        for wanted in asked:
            division = divisible.fastest_within(noise, decibels_to_share(wanted))
            if division is not None and division.spared not in [one.nodes for one in found]:
                found.append(Spared(division.spared, division.predicted_us, divisible.all_float_us, divisible.all_integer_us))
        return found

    details = identity(built), identity(state.lineup.built[FLOAT]), asked
    what = f"place {name} within bounds"
    work = partial(state.ledger.remember, what, details, measure, list[Spared])
    found = state.try_extra(name, "placing it by time and error", work, list[Spared]())
    worth = [one for one in found if one.nodes and one.predicted_us < WORTH * one.float_us]
    before = static_scheme(built.candidate).spared
    schemes = [replace(form, spared=(*before, *one.nodes)) for one in worth]
    candidates = [replace(built.candidate, scheme=scheme) for scheme in schemes]
    return enter(state, candidates, "placement by time and error", reserve_s=reserve_s)


def mixed(state: SearchState, placed: Sequence[str]) -> list[Candidate]:
    """The mixtures of the lineup with a divided static part in the place of the one that it was made from."""
    found = []
    for name in placed:
        divided = static_scheme(state.lineup.built[name].candidate)
        for built in list(state.lineup.built.values()):
            part = static_part(built.candidate)
            if part == replace(divided, spared=()) and built.candidate.scheme != part:
                found.append(with_static_part(built.candidate, divided))
    return found


def _divisible(state: SearchState, built: Built) -> Divisible:
    floats = state.lineup.built[FLOAT]
    assert built.path is not None  # both are in the lineup
    assert floats.path is not None
    state.lineup.close_all()
    return measure_division(
        state.source.prepared,
        _placed(state, built.candidate),
        floats.path,
        built.path,
        state.source.example,
        built.candidate.provider,
        built.candidate.session,
    )


def _placed(state: SearchState, candidate: Candidate) -> list[str]:
    """Nodes that the candidate computes in integers."""
    from edgekit_export import ranges_from
    from edgekit_export.placement import place as nodes_to_place

    scheme = static_scheme(candidate)
    assert state.statistics is not None  # or it would not have been built
    ranges = ranges_from(state.statistics.histograms, scheme.method)
    return [name for name in nodes_to_place(state.source.prepared, scheme.placement, ranges) if name not in scheme.spared]


def _noise(state: SearchState, built: Built) -> Mapping[str, float]:
    """What each node in integers alone makes of the outputs' error, as a share of their power."""
    from edgekit.inspection.sensitivity_study import Examples, Study
    from edgekit_export.sensitivity import open_switchable

    scheme = static_scheme(built.candidate)
    assert state.statistics is not None  # or it would not have been built
    switchable = open_switchable(state.source.prepared, replace(scheme, spared=(), corrections=()), state.statistics.histograms)
    examples = Examples()
    for feed, outputs in zip(state.feeds[:NOISE_FEEDS], state.outputs, strict=False):
        examples.add(feed, outputs)
    study = Study(switchable, examples)
    noise: dict[str, float] = {}
    groups = [group for group in switchable.groups if group.kind == "node"]
    for index, group in enumerate(groups):
        noise[group.nodes[0]] = decibels_to_share(study.measure(group.nodes).sqnr_db)
        state.progress.advance(index + 1, len(groups))
    return noise


def _told(found: Spared) -> str:
    return (
        f"{len(found.nodes)} nodes stay float since they are faster so: node times and conversions sum up to "
        f"{found.predicted_us / 1e3:.2f} ms, against {found.integer_us / 1e3:.2f} ms with all of them in integers and "
        f"{found.float_us / 1e3:.2f} ms in float"
    )
