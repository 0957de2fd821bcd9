"""Evaluation: predictions, the recipe's metric, and what a candidate loses of it, with an interval.

The interval is a paired percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993): both models'
metrics are recomputed on the same resampled examples, so that examples which both get wrong do not widen it.
"""

from collections.abc import Callable, Sequence
from math import ceil, isfinite
from time import perf_counter
from typing import Any

import numpy as np

from edgekit.recipe import Arrays, Recipe, Run
from edgekit_runtime.errors import EdgekitError, EvaluationError
from edgekit_runtime.measurement import Interval

__all__ = ["Evaluation", "Recorder", "examples_to_certify"]

RESAMPLES = 1000
RESAMPLES_SLOW = 200
SLOW_METRIC_S = 0.02
SEED = 0


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
        self._predict = recipe.predict
        self._metric = recipe.metric
        self.examples = self._guarded("evaluation()", recipe.evaluation)
        if not hasattr(self.examples, "__len__") or not hasattr(self.examples, "__getitem__"):
            raise EvaluationError(
                f"evaluate {recipe.name}: evaluation() gave a {type(self.examples).__name__}, expected a sequence of (input, label)"
            )
        if len(self.examples) == 0:
            raise EvaluationError(f"evaluate {recipe.name}: evaluation() gave no examples")
        first = self.examples[0]
        if not isinstance(first, tuple) or len(first) != 2:
            raise EvaluationError(f"evaluate {recipe.name}: example 0 is a {type(first).__name__}, expected a pair (input, label)")

    def __len__(self) -> int:
        return len(self.examples)

    def predict(self, run: Run, count: int | None = None, on_example: Callable[[int, int], None] | None = None) -> list[Any]:
        """Predictions on the first `count` examples, or on all."""
        total = len(self.examples) if count is None else min(count, len(self.examples))
        predictions = []
        for index in range(total):
            value, _ = self.examples[index]
            predictions.append(self._guarded(f"predict() on example {index}", self._predict, run, value))
            if on_example:
                on_example(index + 1, total)
        return predictions

    def metric(self, predictions: Sequence[Any]) -> float:
        """The metric of predictions on the first examples.

        Raises:
            EvaluationError: It raises, or gives something that is not a finite number.
        """
        labels = [self.examples[index][1] for index in range(len(predictions))]
        return self._score(list(predictions), labels)

    def drop(self, baseline: Sequence[Any], predictions: Sequence[Any]) -> tuple[float, Interval]:
        """What `predictions` lose of the metric against `baseline` on the same examples, with its 95 % interval."""
        return self.drops(baseline, [predictions])[0]

    def drops(self, baseline: Sequence[Any], others: Sequence[Sequence[Any]]) -> list[tuple[float, Interval]]:
        """The same for several models; the baseline's resamples are scored once."""
        labels = [self.examples[index][1] for index in range(len(baseline))]
        start = perf_counter()
        whole = self._score(list(baseline), labels)
        resamples = RESAMPLES if perf_counter() - start < SLOW_METRIC_S else RESAMPLES_SLOW
        draws = np.random.default_rng(SEED).integers(0, len(labels), (resamples, len(labels)))
        references = [self._resampled(baseline, labels, draw) for draw in draws]
        results = []
        for predictions in others:
            drop = whole - self._score(list(predictions), labels)
            if all(_same(one, other) for one, other in zip(baseline, predictions, strict=True)):
                results.append((drop, (0.0, 0.0)))
                continue
            scores = [self._resampled(predictions, labels, draw) for draw in draws]
            differences = [one - other for one, other in zip(references, scores, strict=True) if isfinite(one - other)]
            if len(differences) < resamples // 2:
                raise EvaluationError(
                    f"evaluate: the metric is NaN on most resamples of {len(labels)} examples; give more, or a metric that "
                    "holds on any mix of them"
                )
            low, high = np.percentile(differences, [2.5, 97.5])
            results.append((drop, (float(low), float(high))))
        return results

    def _resampled(self, predictions: Sequence[Any], labels: Sequence[Any], draw: np.ndarray) -> float:
        """The metric on one resample; NaN where that mix of examples has none."""
        with np.errstate(all="ignore"):
            value = self._guarded(
                "metric()", self._metric, [predictions[index] for index in draw], [labels[index] for index in draw]
            )
        return float(value)

    def _score(self, predictions: Sequence[Any], labels: Sequence[Any]) -> float:
        value = self._guarded("metric()", self._metric, predictions, labels)
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise EvaluationError(f"evaluate: metric() gave a {type(value).__name__}, expected a number") from error
        if not isfinite(number):
            raise EvaluationError(
                f"evaluate: metric() gave {number} on {len(labels)} examples; it must be finite (no division by zero)"
            )
        return number

    @staticmethod
    def _guarded(what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (EdgekitError, MemoryError):
            raise
        except Exception as error:
            raise EvaluationError(f"evaluate: the recipe's {what} raised {type(error).__name__}: {error}") from error


def examples_to_certify(examples: int, drop: float, interval: Interval, max_drop: float) -> int | None:
    """How many examples would bring the interval inside the budget, were the drop to stay; ``None`` where none would.

    The interval's half-width shrinks with the square root of the number of examples.
    """
    if drop >= max_drop:
        return None
    half = max(interval[1] - drop, 0.0)
    return max(examples, ceil(examples * (half / (max_drop - drop)) ** 2))


def _same(one: Any, other: Any) -> bool:
    """Whether two predictions are equal, whatever they are made of."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return (
        bool(np.array_equal(np.asarray(one), np.asarray(other)))
        if isinstance(one, np.ndarray)
        else bool(one is other or one == other)
    )
