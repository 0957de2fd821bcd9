"""The Pareto front: candidates of which no other one is better in something and as good in everything else."""

from collections.abc import Sequence
from math import inf

from edgekit.verdict.gains import MEMORY_NOISE_BYTES
from edgekit.verdict.gates import accuracy_gate
from edgekit.verdict.tried import Tried

__all__ = ["front"]

# A figure with the two ends of what noise makes of it; higher is better.
Span = tuple[float, float, float]
UNKNOWN: Span = (-inf, -inf, -inf)
# Outputs this near to each other are as near to float's.
NOISE_DB = 1.0
# Files whose sizes differ by less weigh the same to whoever stores them.
SAME_SIZE = 0.02


def front(baseline: Tried, candidates: Sequence[Tried], max_drop: float) -> list[str]:
    """Names of those that pass the accuracy gate and that no other one beats, float included, in the order given.

    One beats another that is no faster, wins nothing beyond noise in size, memory or accuracy, and loses beyond noise in one of
    the four: intervals that overlap are no win. The fastest is always on it, or one that is as fast. Without a metric, the
    nearness of outputs to float's stands for accuracy. What was not measured is not won.

    Args:
        baseline: The float model.
        candidates: All others.
        max_drop: What the metric may lose.
    """
    whole = [one for one in candidates if one.failure is None and one.left is None]
    admitted = [one for one in whole if accuracy_gate(one, baseline, max_drop) is None]
    floats = baseline.measurement.instructions
    spans = {one.name: _spans(one, floats, is_float=one is baseline) for one in (baseline, *admitted)}
    return [name for name, own in spans.items() if not any(_beats(other, own) for other in spans.values())]


def _beats(one: Sequence[Span], other: Sequence[Span]) -> bool:
    pairs = list(zip(one, other, strict=True))
    slower = pairs[0][0][0] < pairs[0][1][0]
    behind = any(mine[2] < theirs[1] for mine, theirs in pairs[1:])
    return not slower and not behind and any(mine[1] > theirs[2] for mine, theirs in pairs)


def _spans(tried: Tried, float_instructions: int | None, *, is_float: bool) -> list[Span]:
    """Latency, of which the figure itself counts, then size, memory and accuracy, of which only clear differences do.

    Where nothing was timed and instructions were counted, they stand for latency.
    """
    figures = tried.measurement
    speed, memory, size = figures.speedup, figures.peak_rss_bytes, figures.size_bytes
    if is_float:
        best = 0.0 if figures.metric is not None else inf
        latency: Span = (1.0, 1.0, 1.0)
        accuracy: Span = (best, best, best)
    else:
        if speed is None and float_instructions and figures.instructions:
            speed = float_instructions / figures.instructions
        latency = UNKNOWN if speed is None else (speed, *(figures.speedup_ci or (speed, speed)))
        accuracy = _accuracy(tried)
    return [
        latency,
        UNKNOWN if size is None else (-size, -size * (1 + SAME_SIZE / 2), -size * (1 - SAME_SIZE / 2)),
        UNKNOWN if memory is None else (-memory, -memory - MEMORY_NOISE_BYTES / 2, -memory + MEMORY_NOISE_BYTES / 2),
        accuracy,
    ]


def _accuracy(tried: Tried) -> Span:
    drop, ends = tried.measurement.metric_drop, tried.measurement.metric_drop_ci
    if drop is None:
        return tried.nearness, tried.nearness - NOISE_DB / 2, tried.nearness + NOISE_DB / 2
    low, high = ends or (drop, drop)
    return -drop, -high, -low
