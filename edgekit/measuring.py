"""Measuring built candidates: load test, latency, accuracy, output error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.building import Built
from edgekit.deployment import ErrorHistogram
from edgekit.evaluation import Evaluation
from edgekit.labs.host import HostLab
from edgekit.progress import Progress
from edgekit.recipe import Arrays
from edgekit_runtime.accuracy import difference
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.errors import SessionError
from edgekit_runtime.measurement import Measurement, finite
from edgekit_runtime.model import Model
from edgekit_runtime.timing import Timings, speedup

__all__ = ["Lineup", "compare_outputs", "confirm", "evaluate_all", "load_all", "time_all"]

ROUNDS = 25
CONFIRMATION_ROUNDS = 50
BINS = 41
# A hopeless candidate is not evaluated to the end: after this many examples, one whose whole interval lies outside the
# budget is done. One that cannot win on latency is measured on this many, so that its figures are there to see.
PROBE_EXAMPLES = 500


@dataclass
class Lineup:
    """Candidates that loaded, float32 first, with what is known of them so far.

    Attributes:
        built: By name.
        models: Open models, by name.
        figures: Measurements so far, by name.
        examples: Evaluation examples behind each metric.
        failures: Why the others are not among `models`, by name.
    """

    built: dict[str, Built]
    models: dict[str, Model] = field(default_factory=dict)
    figures: dict[str, Measurement] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def update(self, name: str, **figures: Any) -> None:
        """Adds figures of one candidate."""
        known = {field: getattr(self.figures[name], field) for field in self.figures[name].__struct_fields__}
        self.figures[name] = Measurement(**(known | figures))


def load_all(built: Sequence[Built], feed: Arrays, lab: HostLab, progress: Progress) -> Lineup:
    """Opens every candidate in processes of their own, and those that survive it in this one."""
    lineup = Lineup({one.name: one for one in built})
    progress.stage("load each candidate in a process of its own: cold start, memory")
    for index, one in enumerate(built):
        lineup.figures[one.name] = Measurement()
        try:
            if one.path is None:
                lineup.failures[one.name] = one.failure or "it was not built"
            else:
                fresh = lab.fresh(one.path, feed, one.candidate.provider, one.candidate.session)
                lineup.models[one.name] = lab.open(one.path, one.candidate.provider, one.candidate.session)
                lineup.models[one.name](feed)
                lineup.figures[one.name] = Measurement(
                    size_bytes=size_bytes(one.path), peak_rss_bytes=fresh.peak_rss_bytes, cold_start_ms=fresh.cold_start_ms
                )
        except SessionError as error:
            lineup.failures[one.name] = str(error)
            lineup.models.pop(one.name, None)
        progress.advance(index + 1, len(built))
    return lineup


def time_all(lineup: Lineup, baseline: str, feed: Arrays, lab: HostLab, progress: Progress, rounds: int = ROUNDS) -> None:
    """Times all open models in interleaved rounds and fills in latency and speed-up."""
    progress.stage(f"time {len(lineup.models)} models in {rounds} interleaved rounds")
    timings = lab.time(lineup.models, feed, rounds, progress.advance)
    for name, own in timings.items():
        lineup.update(name, **_latency(timings[baseline], own, same=name == baseline))


def confirm(
    lineup: Lineup, baseline: str, name: str, feed: Arrays, lab: HostLab, progress: Progress, rounds: int = CONFIRMATION_ROUNDS
) -> None:
    """Times one candidate against float once more, in rounds of their own.

    The fastest of many was picked partly for its luck; figures from fresh rounds are free of that.
    """
    progress.stage(f"confirm {name} against {baseline} in {rounds} fresh rounds")
    timings = lab.time({key: lineup.models[key] for key in (baseline, name)}, feed, rounds, progress.advance)
    for key, own in timings.items():
        lineup.update(key, **_latency(timings[baseline], own, same=key == baseline))


def _latency(baseline: Timings, own: Timings, *, same: bool) -> dict[str, Any]:
    ratio = speedup(baseline, own)
    return {
        "latency_ms": own.median_ms,
        "latency_p99_ms": own.p99_ms,
        "speedup": 1.0 if same else ratio.value,
        "speedup_ci": (1.0, 1.0) if same else ratio.interval,
    }


def compare_outputs(
    lineup: Lineup, baseline: str, feeds: Sequence[Arrays], reference: Sequence[Arrays]
) -> dict[str, list[ErrorHistogram]]:
    """Fills in output parity against the float model, and gives each candidate's error distributions."""
    histograms: dict[str, list[ErrorHistogram]] = {}
    for name in list(lineup.models):
        try:
            outputs = [lineup.models[name](feed) for feed in feeds]
        except SessionError as error:
            lineup.failures[name] = str(error)
            del lineup.models[name]
            continue
        found = difference(outputs, reference)
        lineup.update(name, max_abs_diff=finite(found.max_abs_diff), sqnr_db=finite(found.sqnr_db))
        histograms[name] = [] if name == baseline else error_histograms(outputs, reference)
    return histograms


def error_histograms(outputs: Sequence[Arrays], reference: Sequence[Arrays]) -> list[ErrorHistogram]:
    """Distribution of each float output's errors, in bins that are symmetric about zero."""
    found = []
    for name, first in reference[0].items():
        if first.dtype.kind != "f" or any(
            one[name].shape != other[name].shape for one, other in zip(outputs, reference, strict=True)
        ):
            continue
        errors = np.concatenate(
            [(one[name].astype(np.float64) - other[name]).ravel() for one, other in zip(outputs, reference, strict=True)]
        )
        errors = errors[np.isfinite(errors)]
        widest = float(np.max(np.abs(errors), initial=0.0)) or 1e-12
        counts, edges = np.histogram(errors, BINS, (-widest, widest))
        found.append(ErrorHistogram(name, [float(edge) for edge in edges], [int(count) for count in counts]))
    return found


def evaluate_all(
    lineup: Lineup,
    baseline: str,
    evaluation: Evaluation,
    reference: Sequence[Any],
    max_drop: float,
    hopeless: Mapping[str, bool],
    progress: Progress,
) -> None:
    """Fills in the metric of every open candidate.

    Args:
        lineup: Candidates.
        baseline: Name of the float model.
        evaluation: Examples and metric.
        reference: The float model's predictions on all examples.
        max_drop: The budget.
        hopeless: Candidates that cannot win whatever their metric; they are measured on the first examples only.
        progress: Where to say what is going on.
    """
    names = [name for name in lineup.models if name != baseline]
    for index, name in enumerate(names):
        progress.stage(f"evaluate {name} ({index + 1} of {len(names)})")
        model = lineup.models[name]
        try:
            count = min(PROBE_EXAMPLES, len(evaluation))
            predictions = evaluation.predict(model, count, progress.advance)
            drop, interval = evaluation.drop(reference[:count], predictions)
            if count < len(evaluation) and not hopeless.get(name) and interval[0] <= max_drop:
                predictions = evaluation.predict(model, None, progress.advance)
                count = len(evaluation)
                drop, interval = evaluation.drop(reference, predictions)
        except SessionError as error:
            lineup.failures[name] = str(error)
            del lineup.models[name]
            continue
        lineup.examples[name] = count
        lineup.update(name, metric=evaluation.metric(predictions), metric_drop=drop, metric_drop_ci=interval)
