"""Measuring candidates' accuracy: outputs against the float model's, and the recipe's metric."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.deployment import ErrorHistogram
from edgekit.evaluation import Evaluation, Recorder, Reference
from edgekit.lineup import FLOAT, Lineup
from edgekit.measuring_speed import clearly_slower
from edgekit.progress import Progress
from edgekit.recipe import Arrays
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import EvaluationError
from edgekit_runtime.measurement import finite

__all__ = ["compare_outputs", "evaluate_all", "evaluate_float"]

BINS = 41
# Feeds on which outputs are compared.
PARITY_FEEDS = 32
# A candidate is evaluated on this many examples first. One whose whole interval lies outside the budget then, or that cannot
# win on latency, is not evaluated on the others. They are drawn at random: the first of a sorted set are all of one kind.
PROBE_EXAMPLES = 500
PROBE_SEED = 0


def evaluate_float(lineup: Lineup, evaluation: Evaluation, progress: Progress) -> tuple[Recorder, Reference]:
    """Fills in the float model's metric; gives some feeds with its outputs, and what others are compared with.

    Raises:
        EvaluationError: The recipe's evaluation, predict or metric do not hold.
    """
    progress.stage(f"evaluate {FLOAT}")
    recorder = Recorder(lineup.models[FLOAT], PARITY_FEEDS)
    predictions = evaluation.predict(recorder, None, progress.advance)
    if not recorder.feeds:
        raise EvaluationError("evaluate float32: the recipe's predict() never calls run(feed), so no model is evaluated by it")
    reference = evaluation.reference(predictions)
    lineup.examples[FLOAT] = len(evaluation)
    lineup.update(FLOAT, metric=reference.score, metric_drop=0.0, metric_drop_ci=(0.0, 0.0))
    return recorder, reference


def compare_outputs(lineup: Lineup, feeds: Sequence[Arrays], reference: Sequence[Arrays]) -> None:
    """Fills in output parity with the float model, and error distributions; outputs that are not finite are a failure."""
    lineup.update(FLOAT, max_abs_diff=0.0)
    for name in [name for name in lineup.models if name != FLOAT]:
        with lineup.attempt(name, "compare outputs"):
            outputs = [lineup.models[name](feed) for feed in feeds]
            broken = _not_finite(outputs, reference)
            if broken:
                lineup.fail(name, f"{name}: output {broken!r} holds NaN or infinity where the float model's is finite")
                continue
            found = difference(outputs, reference)
            lineup.update(name, max_abs_diff=finite(found.max_abs_diff), sqnr_db=finite(found.sqnr_db))
            lineup.errors[name] = error_histograms(outputs, reference)


def evaluate_all(
    lineup: Lineup, evaluation: Evaluation, reference: Reference, max_drop: float, optimize: str, progress: Progress
) -> None:
    """Fills in the metric of every open candidate; one whose predictions have none has failed.

    Args:
        lineup: Candidates.
        evaluation: Examples and metric.
        reference: The float model's predictions on all examples.
        max_drop: The budget.
        optimize: What to gain; a candidate that cannot is measured on some examples only.
        progress: Where to say what is going on.
    """
    probe = _probe(evaluation, reference)
    names = [name for name in lineup.models if name != FLOAT]
    for index, name in enumerate(names):
        progress.stage(f"evaluate {name} ({index + 1} of {len(names)})")
        with lineup.attempt(name, "evaluate"):
            if probe is None:
                predictions = evaluation.predict(lineup.models[name], None, progress.advance)
                _note_metric(lineup, name, evaluation, reference, predictions)
                continue
            first = evaluation.predict(lineup.models[name], probe.indices, progress.advance)
            _, interval = evaluation.drop(probe, first)
            why = _no_gain(lineup, name, optimize) or ("it lies outside the budget on them" if interval[0] > max_drop else None)
            if why:
                lineup.notes[name].append(
                    f"what it loses was measured on {len(probe.indices)} of {len(evaluation)} examples, drawn at random, and its "
                    f"metric is float32's on all of them less that: {why}"
                )
                _note_metric(lineup, name, evaluation, probe, first)
            else:
                known = dict(zip(probe.indices, first, strict=True))
                rest = [index for index in range(len(evaluation)) if index not in known]
                known |= zip(rest, evaluation.predict(lineup.models[name], rest, progress.advance), strict=True)
                _note_metric(lineup, name, evaluation, reference, [known[index] for index in range(len(evaluation))])


def error_histograms(outputs: Sequence[Arrays], reference: Sequence[Arrays]) -> list[ErrorHistogram]:
    """Distribution of each float output's errors, in bins that are symmetric about zero."""
    found = []
    for name, first in reference[0].items():
        pairs = [(one[name], other[name]) for one, other in zip(outputs, reference, strict=True)]
        if first.dtype.kind != "f" or any(one.shape != other.shape for one, other in pairs):
            continue
        with np.errstate(invalid="ignore"):
            errors = np.concatenate([(one.astype(np.float64) - other).ravel() for one, other in pairs])
        errors = errors[np.isfinite(errors)]
        widest = float(np.max(np.abs(errors), initial=0.0)) or 1e-12
        counts, edges = np.histogram(errors, BINS, (-widest, widest))
        found.append(ErrorHistogram(name, [float(edge) for edge in edges], [int(count) for count in counts]))
    return found


def _note_metric(lineup: Lineup, name: str, evaluation: Evaluation, reference: Reference, predictions: Sequence[Any]) -> None:
    drop, interval = evaluation.drop(reference, predictions)
    # On some of the examples float32's own metric is another, so only the difference can be told beside its metric on all.
    whole = lineup.figures[FLOAT].metric or 0.0
    metric = evaluation.metric(predictions) if len(predictions) == len(evaluation) else whole - drop
    lineup.update(name, metric=metric, metric_drop=drop, metric_drop_ci=interval)
    lineup.examples[name] = len(predictions)


def _no_gain(lineup: Lineup, name: str, optimize: str) -> str | None:
    """Why a candidate cannot win whatever its metric, or ``None``."""
    if optimize == "latency":
        return "it is clearly slower than float" if clearly_slower(lineup, name) else None
    smaller = (lineup.figures[name].size_bytes or 0) < (lineup.figures[FLOAT].size_bytes or 0)
    return None if smaller else "it is not smaller than float"


def _probe(evaluation: Evaluation, reference: Reference) -> Reference | None:
    """The float model on some of the examples; nothing where they are few, or have no metric of their own."""
    if len(evaluation) <= PROBE_EXAMPLES:
        return None
    indices = sorted(np.random.default_rng(PROBE_SEED).permutation(len(evaluation))[:PROBE_EXAMPLES].tolist())
    try:
        return evaluation.reference([reference.predictions[index] for index in indices], indices)
    except EvaluationError:
        return None


def _not_finite(outputs: Sequence[Arrays], reference: Sequence[Arrays]) -> str | None:
    """Name of the first float output that is not finite although all of the float model's is."""
    for got, expected in zip(outputs, reference, strict=True):
        for name, wanted in expected.items():
            if wanted.dtype.kind == "f" and np.isfinite(wanted).all() and not np.isfinite(got[name]).all():
                return name
    return None
