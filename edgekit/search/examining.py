"""Examining: why what ships takes the time that it takes and errs where it errs, for the report; nothing here decides."""

from dataclasses import replace

import msgspec

from edgekit.candidates import static_scheme
from edgekit.deployment import OperatorTime, ReportedFinding
from edgekit.inspection.optimized_graph import optimized_wiring
from edgekit.inspection.sensitivity import Sensitivity
from edgekit.lineup import FLOAT
from edgekit.placing.attribution import Attributed, attribute
from edgekit.placing.blocks import join
from edgekit.search.entering import identity
from edgekit.search.state import SearchState
from edgekit_runtime.node_times import node_times_of_all
from edgekit_runtime.session import CPU

__all__ = ["EXAMINATION_S", "Examination", "examine"]

EXAMINATION_S = 20.0
"""About what it takes with a network for phones; the search leaves as much of its budget."""

SENSITIVITY_S = 8.0
# Inputs that errors are looked into on.
FEEDS = 8
CONVERSIONS = "conversions"


class Examination(msgspec.Struct, frozen=True):
    """What was seen.

    Attributes:
        subject: The candidate that it is about: what ships, or, where float does, the best of those that it was better than.
        operators: Time by operator of the float graph, float against the subject.
        findings: Why the subject is slow or wrong, worst first.
        sensitivity: What quantizing each node costs; ``None`` where that was not measured.
    """

    subject: str
    operators: list[OperatorTime] = []
    findings: list[ReportedFinding] = []
    sensitivity: Sensitivity | None = None


class Studied(msgspec.Struct, frozen=True):
    """A sensitivity, or none."""

    found: Sensitivity | None


def examine(state: SearchState, chosen: str) -> Examination:
    """Looks into what ships, or into the best that lost where float ships.

    Args:
        state: The search, finished.
        chosen: What ships.
    """
    subject = chosen if state.lineup.built[chosen].kind != FLOAT else _best_loser(state)
    if subject is None or not state.wish.timed:
        return Examination(chosen)
    state.progress.stage(f"look into {subject}")
    details = identity(state.lineup.built[subject]), identity(state.lineup.built[FLOAT]), state.evaluated
    remember, attempt = state.ledger.remember, state.try_extra
    operators = attempt(
        subject,
        "timing its operators",
        lambda: remember(f"operator times of {subject}", details, lambda: _operators(state, subject), list[OperatorTime]),
        list[OperatorTime](),
    )
    findings = attempt(
        subject,
        "looking into it",
        lambda: remember(f"findings of {subject}", details, lambda: _findings(state, subject), list[ReportedFinding]),
        list[ReportedFinding](),
    )
    studied = attempt(
        subject,
        "its sensitivity",
        lambda: remember("sensitivity", details, lambda: Studied(_sensitivity(state, subject)), Studied),
        Studied(None),
    )
    return Examination(subject, operators, findings, studied.found)


def _best_loser(state: SearchState) -> str | None:
    """The candidate with integers that came nearest to shipping."""
    lineup = state.lineup
    able = [name for name in lineup.alive if lineup.built[name].kind != FLOAT]
    return max(able, key=lambda name: lineup.figures[name].speedup or 0.0, default=None)


def _operators(state: SearchState, subject: str) -> list[OperatorTime]:
    """Times of both graphs, by the operator that a node was in the float graph."""
    lineup, graph = state.lineup, state.source.prepared
    if lineup.built[subject].candidate.provider.name != CPU:
        return []  # it compiles its nodes into one
    lineup.close_all()
    paths = {name: path for name in (FLOAT, subject) if (path := lineup.built[name].path) is not None}
    options = {name: (lineup.built[name].candidate.provider, lineup.built[name].candidate.session) for name in paths}
    times = node_times_of_all(paths, state.source.example, options)
    spent = {name: attribute(graph, optimized_wiring(path, *options[name])[0], times[name]) for name, path in paths.items()}
    by_operator = {name: _by_operator(state, one) for name, one in spent.items()}
    names = dict.fromkeys(operator for one in by_operator.values() for operator in one)
    found = [OperatorTime(name, by_operator[FLOAT].get(name), by_operator[subject].get(name)) for name in names]
    return sorted(found, key=lambda one: -max(one.float_us or 0.0, one.chosen_us or 0.0))


def _by_operator(state: SearchState, spent: Attributed) -> dict[str, float]:
    """What is fused behind a node counts for its operator: in float, both have one time."""
    blocks = join(state.source.prepared)
    operators = {str(node.name): node.op_type for node in state.source.prepared.model.graph}
    found: dict[str, float] = {}
    for name, time in spent.nodes.items():
        operator = operators[blocks[name]]
        found[operator] = found.get(operator, 0.0) + time
    other = spent.borders_us + spent.unknown_us
    return {**found, CONVERSIONS: other} if other else found


def _findings(state: SearchState, subject: str) -> list[ReportedFinding]:
    from edgekit.diagnosis.findings import ranked
    from edgekit.diagnosis.why_slow import why_slow
    from edgekit.diagnosis.why_wrong import why_wrong

    lineup = state.lineup
    built = lineup.built[subject]
    assert built.path is not None  # it was timed
    lineup.close_all()
    provider, session = built.candidate.provider, built.candidate.session
    plain = state.ledger.folder / "plain.onnx"
    # Its nodes and tensors keep their names, by which time and errors are traced; the file that is timed is optimized already.
    state.source.prepared.save(plain)
    slow = why_slow(built.path, provider, session, feed=state.source.example, float_path=plain)
    wrong = why_wrong(
        built.path,
        provider,
        session,
        feeds=state.feeds[:FEEDS],
        float_path=plain,
        calibration=state.sample[:FEEDS],
        ranges=state.statistics.inputs if state.statistics else None,
    )
    findings = ranked([*slow.findings, *wrong.findings])
    return [
        ReportedFinding(name=one.name, kind=one.kind, title=one.title, evidence=one.evidence, advice=one.advice, impact=one.impact)
        for one in findings
    ]


def _sensitivity(state: SearchState, subject: str) -> Sensitivity | None:
    """Of the scheme that ships, or of the static candidate nearest to float: only static schemes round tensor by tensor."""
    from edgekit.inspection.sensitivity import sensitivity_of, variants_of
    from edgekit.inspection.sensitivity_examples import study_of
    from edgekit_export.sensitivity import open_switchable

    name = _studied(state, subject)
    if name is None or state.statistics is None or state.left_s < SENSITIVITY_S:
        return None
    scheme = replace(static_scheme(state.lineup.built[name].candidate), spared=(), corrections=())
    switchable = open_switchable(state.source.prepared, scheme, state.statistics.histograms)
    variants = variants_of(switchable.groups)
    study = study_of(switchable, None, lambda: state.feeds, count=None, budget_s=SENSITIVITY_S, variants=variants)
    notes = [f"of the nodes that {scheme.name} takes, without corrections"]
    return sensitivity_of(study, model=state.recipe.name, scheme=scheme.name, notes=notes, progress=state.progress)


def _studied(state: SearchState, subject: str) -> str | None:
    from edgekit_export import StaticInt8

    built = state.lineup.built
    static = [name for name in state.lineup.alive if isinstance(built[name].candidate.scheme, StaticInt8)]
    if subject in static:
        return subject
    return max(static, key=lambda name: state.lineup.figures[name].sqnr_db or 0.0, default=None)
