"""Judging: what candidates lose of the recipe's metric, the fastest first, until one is good enough and nobody faster is left."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from edgekit.evaluation import Reference
from edgekit.lineup import FLOAT
from edgekit.search.entering import identity
from edgekit.search.state import SearchState
from edgekit.verdict import accuracy_gate
from edgekit_runtime.errors import EvaluationError
from edgekit_runtime.measurement import Interval

__all__ = ["evaluate", "evaluate_float", "evaluation_seconds", "is_accurate"]

# A candidate is evaluated on this many examples first. One whose whole interval lies outside the budget then is not evaluated
# on the others. They are drawn at random: the first of a sorted set are all of one kind.
PROBE_EXAMPLES = 500
PROBE_SEED = 0


class FloatScore(msgspec.Struct, frozen=True):
    """The float model's metric, and how many examples it is of."""

    metric: float
    examples: int


class Scored(msgspec.Struct, frozen=True):
    """What a candidate loses.

    Attributes:
        failure: Why that cannot be told.
        metric: Its metric.
        drop: Float's less its own.
        interval: Of the drop.
        examples: How many examples it is of.
        note: What a user should know of that.
    """

    failure: str | None = None
    metric: float | None = None
    drop: float | None = None
    interval: Interval | None = None
    examples: int = 0
    note: str = ""


def evaluate_float(state: SearchState) -> None:
    """Fills in the float model's metric.

    Raises:
        EvaluationError: The recipe's evaluation, predict or metric do not hold.
    """
    found = state.ledger.remember(
        "evaluate float32",
        (identity(state.lineup.built[FLOAT]), state.evaluated),
        lambda: FloatScore(_reference(state).score, len(_reference(state).indices)),
        FloatScore,
    )
    state.evaluation_s = state.ledger.last_s
    state.lineup.examples[FLOAT] = found.examples
    state.lineup.update(FLOAT, metric=found.metric, metric_drop=0.0, metric_drop_ci=(0.0, 0.0))


def evaluate(state: SearchState, name: str) -> None:
    """Fills in a candidate's metric; one whose predictions have none has failed. Without a metric nothing is done."""
    if state.evaluation is None or name in state.lineup.failures:
        return

    twin = _twin(state, name)
    if twin is not None:
        figures = state.lineup.figures[twin]
        drop, ends = figures.metric_drop, figures.metric_drop_ci
        state.lineup.update(name, metric=figures.metric, metric_drop=drop, metric_drop_ci=ends)
        state.lineup.examples[name] = state.lineup.examples[twin]
        state.lineup.notes[name] += [note for note in state.lineup.notes[twin] if note not in state.lineup.notes[name]]
        return

    def measure() -> Scored:
        state.progress.stage(f"evaluate {name}")
        scored: list[Scored] = []
        with state.lineup.attempt(name, "evaluate"):
            scored.append(_score(state, name))
        return scored[0] if scored else Scored(state.lineup.failures[name])

    details = (*identity(state.lineup.built[name]), identity(state.lineup.built[FLOAT]), state.evaluated, state.wish.max_drop)
    found = state.ledger.remember(f"evaluate {name}", details, measure, Scored)
    if found.failure is not None:
        state.lineup.fail(name, found.failure)
        return
    state.lineup.update(name, metric=found.metric, metric_drop=found.drop, metric_drop_ci=found.interval)
    state.lineup.examples[name] = found.examples
    if found.note and found.note not in state.lineup.notes[name]:
        state.lineup.notes[name].append(found.note)


def is_accurate(state: SearchState, name: str) -> bool:
    """Whether a candidate passes the accuracy gate by what is known of it."""
    lineup = state.lineup
    return name not in lineup.failures and accuracy_gate(lineup.tried(name), lineup.tried(FLOAT), state.wish.max_drop) is None


def evaluation_seconds(state: SearchState, name: str) -> float:
    """About how long evaluating a candidate would take, from what it took for float and its speed."""
    if state.evaluation is None:
        return 0.0
    return state.evaluation_s / max(state.lineup.figures[name].speedup or 1.0, 0.1)


def _twin(state: SearchState, name: str) -> str | None:
    """A candidate with a metric that gives the same outputs from the same file: session options change times, and no values."""
    lineup = state.lineup
    own, figures = lineup.built[name], lineup.figures[name]
    return next(
        (
            other
            for other, built in lineup.built.items()
            if other != name
            and (built.sha256, built.candidate.provider) == (own.sha256, own.candidate.provider)
            and lineup.figures[other].metric is not None
            and lineup.figures[other].max_abs_diff == figures.max_abs_diff
        ),
        None,
    )


def _score(state: SearchState, name: str) -> Scored:
    evaluation, reference = state.evaluation, _reference(state)
    assert evaluation is not None  # or nothing is evaluated
    model, advance = state.lineup.model(name), state.progress.advance
    probe = _probe(state, reference)
    if probe is None:
        return _scored(state, reference, evaluation.predict(model, None, advance))
    first = evaluation.predict(model, probe.indices, advance)
    if evaluation.drop(probe, first)[1][0] > state.wish.max_drop:
        note = (
            f"what it loses was measured on {len(probe.indices)} of {len(evaluation)} examples, drawn at random, and its metric is "
            "float32's on all of them less that: it lies outside the budget on them"
        )
        return _scored(state, probe, first, note)
    known = dict(zip(probe.indices, first, strict=True))
    rest = [index for index in range(len(evaluation)) if index not in known]
    known |= zip(rest, evaluation.predict(model, rest, advance), strict=True)
    return _scored(state, reference, [known[index] for index in range(len(evaluation))])


def _scored(state: SearchState, reference: Reference, predictions: Sequence[Any], note: str = "") -> Scored:
    evaluation = state.evaluation
    assert evaluation is not None  # or nothing is evaluated
    drop, interval = evaluation.drop(reference, predictions)
    # On some of the examples float32's own metric is another, so only the difference can be told beside its metric on all.
    whole = state.lineup.figures[FLOAT].metric or 0.0
    metric = evaluation.metric(predictions) if len(predictions) == len(evaluation) else whole - drop
    return Scored(None, metric, drop, interval, len(predictions), note)


def _reference(state: SearchState) -> Reference:
    """The float model's predictions, made when they are first needed: a search that is repeated may not need them."""
    if state.reference is None:
        assert state.evaluation is not None  # or nothing is evaluated
        state.progress.stage(f"evaluate {FLOAT}")
        predictions = state.evaluation.predict(state.lineup.model(FLOAT), None, state.progress.advance)
        state.reference = state.evaluation.reference(predictions)
    return state.reference


def _probe(state: SearchState, reference: Reference) -> Reference | None:
    """The float model on some of the examples; nothing where they are few, or have no metric of their own."""
    evaluation = state.evaluation
    if evaluation is None or len(evaluation) <= PROBE_EXAMPLES:
        return None
    if state.probe is None:
        indices = sorted(np.random.default_rng(PROBE_SEED).permutation(len(evaluation))[:PROBE_EXAMPLES].tolist())
        try:
            state.probe = evaluation.reference([reference.predictions[index] for index in indices], indices)
        except EvaluationError:
            return None
    return state.probe
