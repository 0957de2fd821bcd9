"""The verdict: which candidate ships, and why each other one does not."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from edgekit.deployment import Status
from edgekit.evaluation import examples_to_certify, fewest_to_certify
from edgekit_runtime.measurement import Measurement

__all__ = ["Optimize", "Refusal", "Tried", "Verdict", "accuracy_gate", "decide", "gate"]

Optimize = Literal["latency", "size"]
FLOAT = "float32"
# Without a metric there is still a floor: below this, outputs have little to do with the float model's.
LEAST_SQNR_DB = 20.0
# Gains this close are one gain, told apart by noise; the candidate whose outputs are nearest to float's is taken then.
SAME_GAIN: dict[Optimize, float] = {"latency": 1.02, "size": 1.05}


@dataclass(frozen=True)
class Tried:
    """A candidate as it was measured.

    Attributes:
        name: Its name.
        kind: What a verdict calls it.
        measurement: Its figures.
        examples: Evaluation examples behind the metric.
        failure: Why it could not be built, loaded or run; ``None`` where it could.
    """

    name: str
    kind: str
    measurement: Measurement
    examples: int = 0
    failure: str | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a candidate may not ship.

    Attributes:
        status: ``failed`` or ``rejected``.
        gate: What it did not pass, in a few words, for counting.
        reason: In one sentence, with its figures.
    """

    status: Status
    gate: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Who ships.

    Attributes:
        chosen: Name of the candidate.
        kind: ``int8``, ``mixed``, … or ``float32``.
        reason: In a sentence or two.
        certified: Whether the worst end of the metric's interval is inside the budget, too, on enough examples to say so.
        outcomes: Status and reason of every candidate, by name.
    """

    chosen: str
    kind: str
    reason: str
    certified: bool
    outcomes: dict[str, tuple[Status, str]]


def decide(baseline: Tried, candidates: Sequence[Tried], max_drop: float, optimize: Optimize) -> Verdict:
    """Applies DESIGN's three rules: drop what fails or loses too much, drop what gains nothing, take the best of the rest.

    Args:
        baseline: The float model.
        candidates: All others.
        max_drop: What the metric may lose.
        optimize: What to gain. Where no latency was measured it must be ``size``.
    """
    refusals = {tried.name: gate(tried, baseline, max_drop, optimize) for tried in candidates}
    outcomes = {name: (refusal.status, refusal.reason) for name, refusal in refusals.items() if refusal}
    passed = [tried for tried in candidates if refusals[tried.name] is None]
    if not passed:
        reason = _float_reason([refusal for refusal in refusals.values() if refusal])
        measured = baseline.measurement.metric is not None
        return Verdict(baseline.name, FLOAT, reason, measured, {baseline.name: ("chosen", reason), **outcomes})
    best = _best(passed, baseline, optimize)
    gained = _gained(best, baseline, optimize)
    for tried in passed:
        if tried is not best:
            outcomes[tried.name] = "beaten", f"{_gained(tried, baseline, optimize)}; {_better(best, tried, baseline, optimize)}"
    certified, judgement = _judgement(best, baseline, max_drop)
    reason = f"{best.name}: {gained}; {judgement}"
    outcomes[best.name] = ("chosen", reason)
    outcomes[baseline.name] = ("beaten", f"the float model itself; {best.name} is better: {gained}")
    return Verdict(best.name, best.kind, reason, certified, outcomes)


def gate(tried: Tried, baseline: Tried, max_drop: float, optimize: Optimize) -> Refusal | None:
    """Why a candidate may not ship, or ``None``."""
    if tried.failure is not None:
        return Refusal("failed", "failed", tried.failure)
    return accuracy_gate(tried, baseline, max_drop) or _gain_gate(tried.measurement, baseline.measurement, optimize)


def accuracy_gate(tried: Tried, baseline: Tried, max_drop: float) -> Refusal | None:
    """Why a candidate is not accurate enough, or ``None``."""
    figures = tried.measurement
    if baseline.measurement.metric is not None:
        if figures.metric_drop is None:
            return Refusal("rejected", "without a metric", "its metric was not measured, so what it loses is not known")
        if figures.metric_drop > max_drop:
            text = f"loses {_drop(figures)} of the metric on {tried.examples} examples; the budget is {max_drop:g}"
            return Refusal("rejected", "lost too much of the metric", text)
        return None
    if figures.max_abs_diff == 0.0:
        return None
    if figures.sqnr_db is None:
        text = "its outputs cannot be compared with float's (other shapes, or float's are all zero), and there is no metric"
        return Refusal("rejected", "cannot be compared", text)
    if figures.sqnr_db < LEAST_SQNR_DB:
        text = f"outputs are only {figures.sqnr_db:.1f} dB SQNR from float's (at least {LEAST_SQNR_DB:.0f} without a metric)"
        return Refusal("rejected", "too far from float's outputs", text)
    return None


def _gain_gate(figures: Measurement, baseline: Measurement, optimize: Optimize) -> Refusal | None:
    if optimize == "size":
        if figures.size_bytes is None or baseline.size_bytes is None or figures.size_bytes >= baseline.size_bytes:
            text = f"not smaller than float: {_megabytes(figures)} against {_megabytes(baseline)}"
            return Refusal("rejected", "not smaller than float", text)
        return None
    if figures.speedup is None or figures.speedup_ci is None:
        return Refusal("rejected", "not timed", "its latency was not measured, so whether it gains anything is not known")
    if figures.speedup_ci[0] <= 1.0:
        word = "slower than float" if figures.speedup_ci[1] < 1.0 else "not faster than float beyond doubt"
        return Refusal("rejected", word, f"{word}: {_ratio(figures)}")
    if figures.speedup < SAME_GAIN["latency"]:
        word = "as fast as float within 2 %"
        return Refusal("rejected", word, f"{word}: {_ratio(figures)}")
    return None


def _best(passed: Sequence[Tried], baseline: Tried, optimize: Optimize) -> Tried:
    """The one that gains most; of those that gain as much, the one nearest to float's outputs."""
    most = max(_gain(tried, baseline, optimize) for tried in passed)
    return max((tried for tried in passed if _gain(tried, baseline, optimize) * SAME_GAIN[optimize] >= most), key=_nearness)


def _better(best: Tried, other: Tried, baseline: Tried, optimize: Optimize) -> str:
    """Why `best` is taken and `other` is not."""
    if _gain(best, baseline, optimize) > _gain(other, baseline, optimize) * SAME_GAIN[optimize]:
        return f"{best.name} is better: {_gained(best, baseline, optimize)}"
    same = "as fast within 2 %" if optimize == "latency" else "as small within 5 %"
    nearer = "nearer" if _nearness(best) > _nearness(other) else "as near"
    return f"{best.name} is {same} and {nearer} to float's outputs"


def _judgement(best: Tried, baseline: Tried, max_drop: float) -> tuple[bool, str]:
    """Whether the candidate is certified, and the sentence about its metric."""
    figures = best.measurement
    if figures.metric_drop is None or figures.metric_drop_ci is None:
        return False, "accepted without a metric, so what it loses in the task is not known"
    told = f"it {_lost(figures)} of the metric on {best.examples} examples (budget {max_drop:g})"
    fewest = fewest_to_certify(baseline.measurement.metric or 0.0, max_drop)
    enough = fewest is not None and best.examples >= fewest
    if figures.metric_drop_ci[1] <= max_drop and enough:
        return True, f"certified: {told}"
    needed = examples_to_certify(best.examples, figures.metric_drop, figures.metric_drop_ci, max_drop)
    if needed is None or fewest is None:
        more = "no number of examples would certify it"
    else:
        more = f"certification would need about {max(needed, fewest)} examples"
    return False, f"accepted: {told}; {more}"


def _float_reason(refusals: Sequence[Refusal]) -> str:
    if not refusals:
        return "float32 ships: nothing else suits this target and this model"
    counted = ", ".join(f"{count} {gate}" for gate, count in Counter(refusal.gate for refusal in refusals).items())
    return f"float32 ships: of {len(refusals)} other candidates none passed ({counted})"


def _gain(tried: Tried, baseline: Tried, optimize: Optimize) -> float:
    """How many times faster, or smaller, than float."""
    figures = tried.measurement
    if optimize == "latency":
        return figures.speedup or 0.0
    return (baseline.measurement.size_bytes or 0) / max(figures.size_bytes or 1, 1)


def _nearness(tried: Tried) -> float:
    """How near outputs are to float's, in dB."""
    figures = tried.measurement
    if figures.sqnr_db is None:
        return inf if figures.max_abs_diff == 0.0 else -inf
    return figures.sqnr_db


def _gained(tried: Tried, baseline: Tried, optimize: Optimize) -> str:
    figures = tried.measurement
    if optimize == "latency":
        return _speed(figures)
    share = (figures.size_bytes or 0) / max(baseline.measurement.size_bytes or 1, 1)
    size = f"{share:.2f}× the size of float ({_megabytes(figures)})"
    # Whoever asked for a small model is told what it costs in time.
    return size if figures.speedup is None else f"{size}, {_speed(figures)}"


def _speed(figures: Measurement) -> str:
    return _ratio(figures).replace("×", "× as fast as float")


def _ratio(figures: Measurement) -> str:
    low, high = figures.speedup_ci or (0.0, inf)
    return f"{figures.speedup or 0.0:.2f}× [{low:.2f}, {high:.2f}]"


def _lost(figures: Measurement) -> str:
    """What happened to the metric: a negative loss is a gain, and is told as one."""
    drop, (low, high) = figures.metric_drop or 0.0, figures.metric_drop_ci or (0.0, 0.0)
    return f"gains {-drop:.4f} [{-high:.4f}, {-low:.4f}]" if drop < 0 else f"loses {_drop(figures)}"


def _drop(figures: Measurement) -> str:
    if figures.metric_drop is None:
        return "an unknown part"
    low, high = figures.metric_drop_ci or (figures.metric_drop, figures.metric_drop)
    return f"{figures.metric_drop:.4f} [{low:.4f}, {high:.4f}]"


def _megabytes(figures: Measurement) -> str:
    return "unknown" if figures.size_bytes is None else f"{figures.size_bytes / 1e6:.2f} MB"
