"""Choosing what a study measures on: as many runs of the model as a time budget has room for."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from edgekit.evaluation import Evaluation
from edgekit.inspection.sensitivity_study import Examples, Study
from edgekit.recipe import Arrays
from edgekit_runtime.errors import CalibrationError, EdgekitError, EvaluationError

if TYPE_CHECKING:
    from edgekit_export.sensitivity import Switchable

__all__ = ["study_of"]

SEED = 0
# Of all examples together, inputs and outputs.
MOST_KEPT_BYTES = 1_000_000_000
# Where an example takes several runs: fewer whole ones than this say nothing of a metric, and their runs tell much the same.
LEAST_WHOLE = 4
# However slow the model: a signal-to-noise ratio of fewer runs is one of these inputs, not of the model.
LEAST_RUNS = 4


def study_of(
    switchable: "Switchable",
    evaluation: Evaluation | None,
    feeds: Callable[[], Iterable[Arrays]],
    *,
    count: int | None,
    budget_s: float,
    variants: int,
) -> Study:
    """A study on as many examples as a time budget lets it have.

    Where one example takes several runs of the model, at most half of them go into whole examples, which the metric needs; the
    others are one run each of further examples. Where the budget is too small for that, there is no metric.

    Args:
        switchable: The graph.
        evaluation: Where examples come from, in seeded random order, if there is one.
        feeds: Gives the feeds otherwise, in their own order.
        count: How many whole examples, or feeds; where left out, the budget decides.
        budget_s: Seconds that `variants` choices of nodes may take together.
        variants: How many choices will be measured.

    Raises:
        EvaluationError: The recipe's predict never runs the model, or its own code raises.
        CalibrationError: There are no feeds.
    """

    def room(examples: Examples) -> float:
        return _runs_within(Study(switchable, examples, evaluation), budget_s, variants)

    if evaluation is None:
        examples = Examples()
        _fill(examples, _given(switchable, feeds(), examples), room, count)
        if not examples.feeds:
            raise CalibrationError("sensitivity: there is no feed to measure on")
        return Study(switchable, examples)
    examples = Examples()
    whole = _whole(switchable, evaluation, examples)
    next(whole)
    runs = len(examples.feeds)
    if not runs:
        raise EvaluationError("sensitivity: the recipe's predict() never calls run(feed), so no model is evaluated by it")
    if count is not None:
        _exhaust(islice(whole, count - 1), examples)
    elif runs == 1:
        _fill(examples, whole, room, None)
    else:
        limit = room(examples)
        if limit >= 2 * LEAST_WHOLE * runs:
            for _ in whole:
                if len(examples.feeds) >= limit / 2 or examples.size_bytes >= MOST_KEPT_BYTES:
                    break
        else:
            examples = Examples()
        wanted = max(LEAST_RUNS, int(limit)) - len(examples.feeds)
        _exhaust(islice(_single(switchable, evaluation, examples, runs), max(wanted, 0)), examples)
    return Study(switchable, examples, evaluation)


def _fill(examples: Examples, source: Iterator[None], room: Callable[[Examples], float], count: int | None) -> None:
    """Takes runs until the budget has room for no more; how long they take is measured anew whenever there are twice as many."""
    checked_at, limit = 0, inf if count is None else float(count)
    for _ in source:
        if count is None and len(examples.feeds) >= 2 * checked_at:
            limit = max(LEAST_RUNS, room(examples))
            checked_at = len(examples.feeds)
        if len(examples.feeds) >= limit or examples.size_bytes >= MOST_KEPT_BYTES:
            break


def _exhaust(source: Iterator[None], examples: Examples) -> None:
    for _ in source:
        if examples.size_bytes >= MOST_KEPT_BYTES:
            break


def _runs_within(study: Study, budget_s: float, variants: int) -> float:
    """How many runs of the model for each variant the budget has room for, by the time that the study's take."""
    study.switchable.run(study.examples.feeds[0], study.switchable.nodes)  # the first run allocates
    start = perf_counter()
    study.measure(study.switchable.nodes)
    return len(study.examples.feeds) * budget_s / (variants * max(perf_counter() - start, 1e-6))


class _EnoughError(EdgekitError):
    """Ends a prediction of which no more runs are wanted."""


def _order(evaluation: Evaluation) -> list[int]:
    return list(np.random.default_rng(SEED).permutation(len(evaluation)).tolist())


def _whole(switchable: "Switchable", evaluation: Evaluation, examples: Examples) -> Iterator[None]:
    """Predicts one example after the other with the float graph, and keeps every run."""

    def run(feed: Arrays) -> Arrays:
        outputs = switchable.run(feed, ())
        examples.add(feed, outputs)
        return outputs

    for index in _order(evaluation):
        evaluation.predict(run, [index])
        examples.indices.append(index)
        yield


def _single(switchable: "Switchable", evaluation: Evaluation, examples: Examples, runs: int) -> Iterator[None]:
    """Keeps one run, drawn at random, of one example after the other, of those that were not predicted whole."""
    draw = np.random.default_rng(SEED)
    for index in _order(evaluation)[len(examples.indices) :]:
        wanted, seen = int(draw.integers(runs)), list[tuple[Arrays, Arrays]]()

        def run(feed: Arrays, wanted: int = wanted, seen: list[tuple[Arrays, Arrays]] = seen) -> Arrays:
            seen.append((feed, switchable.run(feed, ())))
            if len(seen) > wanted:
                raise _EnoughError
            return seen[-1][1]

        with suppress(_EnoughError):
            evaluation.predict(run, [index])
        if seen:
            examples.add(*seen[-1])
        yield


def _given(switchable: "Switchable", feeds: Iterable[Arrays], examples: Examples) -> Iterator[None]:
    for feed in feeds:
        examples.add(feed, switchable.run(feed, ()))
        yield
