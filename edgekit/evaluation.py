"""Evaluation: predictions, the recipe's metric, and what a candidate loses of it, with an interval.

The interval is a paired percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993): both models'
metrics are recomputed on the same resampled examples, so that examples which both get wrong do not widen it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, nan, sqrt
from time import perf_counter
from typing import Any

import numpy as np

from edgekit.recipe import Arrays, Recipe, Run
from edgekit_runtime.errors import EdgekitError, EvaluationError
from edgekit_runtime.measurement import Interval

__all__ = ["Evaluation", "Recorder", "Reference", "examples_to_certify", "examples_to_settle", "fewest_to_certify"]

RESAMPLES = 1000
RESAMPLES_SLOW = 200
SLOW_METRIC_S = 0.02
SEED = 0
RULE_OF_THREE = 3
MOST_EXAMPLES = 1e9
FEWEST_TO_RESAMPLE = 30
# Metrics are differences of floats: 0.9312 − 0.9262 is a hair more than 0.005, and is meant to be inside a budget of 0.005.
DIGITS = 12


class Recorder:
    """Passes feeds on to a model and keeps copies of the first few, to compare other models on.

    Args:
        run: The model.
        limit: How many feeds to keep.
    """

    def __init__(self, run: Run, limit: int) -> None:
        self._run = run
        self._limit = limit
        self.feeds: list[Arrays] = []
        self.outputs: list[Arrays] = []

    def __call__(self, feed: Arrays) -> Arrays:
        """Runs the model."""
        outputs = self._run(feed)
        if len(self.feeds) < self._limit:
            self.feeds.append({name: np.array(array) for name, array in feed.items()})
            self.outputs.append({name: np.array(array) for name, array in outputs.items()})
        return outputs


@dataclass(frozen=True)
class Reference:
    """The model that others are compared with, on some of the examples.

    Attributes:
        indices: Which examples.
        predictions: Its predictions on them.
        score: Its metric on them.
        scores: Its metric on each resample; NaN where that mix of examples has none.
    """

    indices: Sequence[int]
    predictions: Sequence[Any]
    score: float
    scores: Sequence[float]


class Evaluation:
    """The recipe's examples and metric.

    Args:
        recipe: It has `evaluation` and `metric`.

    Raises:
        EvaluationError: There are no examples, or they are not pairs.
    """

    def __init__(self, recipe: Recipe) -> None:
        if recipe.evaluation is None or recipe.metric is None:
            raise EvaluationError(f"evaluate {recipe.name}: the recipe has no evaluation or no metric")
        self._name = recipe.name
        self._predict = recipe.predict
        self._metric = recipe.metric
        self._labels: dict[int, Any] = {}
        self.examples = self._guarded("evaluation()", recipe.evaluation)
        if not hasattr(self.examples, "__len__") or not hasattr(self.examples, "__getitem__"):
            raise EvaluationError(
                f"evaluate {recipe.name}: evaluation() gave a {type(self.examples).__name__}, expected a sequence of (input, label)"
            )
        if len(self.examples) == 0:
            raise EvaluationError(f"evaluate {recipe.name}: evaluation() gave no examples")
        self._example(0)

    def __len__(self) -> int:
        return len(self.examples)

    def predict(
        self, run: Run, indices: Sequence[int] | None = None, on_example: Callable[[int, int], None] | None = None
    ) -> list[Any]:
        """Predictions on the examples at `indices`, or on all, in that order.

        Raises:
            EvaluationError: The recipe's own code raises.
            EdgekitError: What `run` raised.
        """
        indices = range(len(self)) if indices is None else indices
        predictions = []
        for done, index in enumerate(indices, start=1):
            value = self._example(index)
            predictions.append(self._guarded(f"predict() on example {index}", self._predict, run, value))
            if on_example:
                on_example(done, len(indices))
        return predictions

    def metric(self, predictions: Sequence[Any], indices: Sequence[int] | None = None) -> float:
        """The metric of predictions on the examples at `indices`, or on all.

        Raises:
            EvaluationError: It raises, or gives something that is not a finite number.
        """
        labels = self._labels_of(range(len(predictions)) if indices is None else indices)
        value = self._guarded("metric()", self._metric, list(predictions), labels)
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise EvaluationError(
                f"evaluate {self._name}: metric() gave a {type(value).__name__}, expected a number, higher is better"
            ) from error
        if not isfinite(number):
            raise EvaluationError(
                f"evaluate {self._name}: metric() gave {number} on {len(labels)} examples; it must be finite (no division by zero)"
            )
        return number

    def reference(self, predictions: Sequence[Any], indices: Sequence[int] | None = None) -> Reference:
        """Predictions to compare others with; their resamples are scored once.

        Raises:
            EvaluationError: The metric raises, or gives something that is not a finite number.
        """
        indices = range(len(predictions)) if indices is None else indices
        start = perf_counter()
        score = self.metric(predictions, indices)
        resamples = RESAMPLES if perf_counter() - start < SLOW_METRIC_S else RESAMPLES_SLOW
        return Reference(indices, predictions, score, self._resampled(predictions, indices, resamples))

    def drop(self, reference: Reference, predictions: Sequence[Any]) -> tuple[float, Interval]:
        """What `predictions` lose of the metric against the reference's on the same examples, with its 95 % interval.

        Raises:
            EvaluationError: There is no finite metric, on all examples or on most resamples.
        """
        drop = round(reference.score - self.metric(predictions, reference.indices), DIGITS)
        if all(_same(one, other) for one, other in zip(reference.predictions, predictions, strict=True)):
            return 0.0, (0.0, 0.0)
        scores = self._resampled(predictions, reference.indices, len(reference.scores))
        differences = [one - other for one, other in zip(reference.scores, scores, strict=True) if isfinite(one - other)]
        if len(differences) < len(scores) // 2:
            raise EvaluationError(
                f"evaluate {self._name}: metric() raises or is not finite on most resamples of {len(predictions)} examples; give "
                "more examples, or a metric that holds on any mix of them"
            )
        low, high = np.percentile(differences, [2.5, 97.5])
        # With few examples, or a metric that many resamples do not have, the percentiles can miss the drop itself.
        return drop, (min(round(float(low), DIGITS), drop), max(round(float(high), DIGITS), drop))

    def _resampled(self, predictions: Sequence[Any], indices: Sequence[int], resamples: int) -> list[float]:
        """The metric on each resample, the same ones for all predictions; NaN where that mix of examples has none."""
        # Arrays of objects are drawn from much faster than lists; the metric is given lists all the same.
        given = np.fromiter(predictions, dtype=object, count=len(predictions))
        labels = np.fromiter(self._labels_of(indices), dtype=object, count=len(indices))
        scores = []
        order = np.random.default_rng(SEED)
        for _ in range(resamples):
            draw = order.integers(0, len(indices), len(indices))
            try:
                with np.errstate(all="ignore"):
                    scores.append(float(self._metric(given[draw].tolist(), labels[draw].tolist())))
            except Exception:  # noqa: BLE001 - the metric held on all examples; what this mix lacks is counted by `drop`
                scores.append(nan)
        return scores

    def _labels_of(self, indices: Sequence[int]) -> list[Any]:
        for index in indices:
            if index not in self._labels:
                self._example(index)
        return [self._labels[index] for index in indices]

    def _example(self, index: int) -> Any:
        """The input of an example; its label is kept, since reading an example anew may be slow."""
        example = self._guarded(f"evaluation()[{index}]", self.examples.__getitem__, index)
        if not isinstance(example, (tuple, list)) or len(example) != 2:
            raise EvaluationError(
                f"evaluate {self._name}: example {index} is a {type(example).__name__}, expected a pair (input, label)"
            )
        self._labels[index] = example[1]
        return example[0]

    def _guarded(self, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (EdgekitError, MemoryError):
            raise
        except Exception as error:
            raise EvaluationError(f"evaluate {self._name}: the recipe's {what} raised {type(error).__name__}: {error}") from error


def examples_to_certify(examples: int, drop: float, interval: Interval, max_drop: float) -> int | None:
    """How many examples would bring the interval inside the budget, were the drop to stay; ``None`` where none would.

    The interval's half-width shrinks with the square root of the number of examples.
    """
    if drop >= max_drop:
        return None
    more = max(interval[1] - drop, 0.0) / (max_drop - drop)
    # Sets of a billion examples do not exist: a drop so near to the budget is not certified by any.
    return max(examples, ceil(examples * more**2)) if more < sqrt(MOST_EXAMPLES / examples) else None


def examples_to_settle(examples: int, drop: float, interval: Interval, max_drop: float) -> int | None:
    """How many examples would bring the interval outside the budget, were the drop to stay; ``None`` where none would.

    For a candidate that was rejected although its interval reaches into the budget.
    """
    if drop <= max_drop or examples < 1:
        return None
    more = max(drop - interval[0], 0.0) / (drop - max_drop)
    return max(examples, ceil(examples * more**2)) if more < sqrt(MOST_EXAMPLES / examples) else None


def fewest_to_certify(metric: float, max_drop: float) -> int | None:
    """The fewest examples on which anything can be certified; ``None`` where no number is enough.

    A bootstrap cannot see what none of its examples shows: where no example went wrong out of n, up to 3/n of all may (the "rule
    of three", Hanley and Lippman-Hand, JAMA 249, 1983). That is a statement about shares, so it is asked of metrics that are at
    most 1 in size, such as accuracies and correlations. Of other metrics it asks for as many examples as resampling needs to say
    anything (Efron and Tibshirani 1993): the bootstrap of a single example has no width.
    """
    if abs(metric) > 1:
        return FEWEST_TO_RESAMPLE
    return ceil(RULE_OF_THREE / max_drop) if max_drop > RULE_OF_THREE / MOST_EXAMPLES else None


def _same(one: Any, other: Any) -> bool:
    """Whether two predictions are equal, whatever they are made of."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_same(left, right) for left, right in zip(one, other, strict=True))
    try:
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))
    except Exception:  # noqa: BLE001 - objects that cannot be compared are not known to be equal, which only costs time
        return False
