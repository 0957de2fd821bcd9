"""The verdict: which candidate ships, and why each other one does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgekit.deployment import Status
from edgekit.evaluation import examples_to_certify
from edgekit_runtime.measurement import Measurement

__all__ = ["Optimize", "Tried", "Verdict", "decide", "gate"]

Optimize = Literal["latency", "size"]
FLOAT = "float32"
# Without a metric there is still a floor: below this, outputs have little to do with the float model's.
LEAST_SQNR_DB = 20.0


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
class Verdict:
    """Who ships.

    Attributes:
        chosen: Name of the candidate.
        kind: ``int8``, ``mixed``, … or ``float32``.
        reason: In a sentence or two.
        certified: Whether the worst end of the metric's interval is inside the budget, too.
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
    outcomes: dict[str, tuple[Status, str]] = {}
    passed = []
    for tried in candidates:
        refused = gate(tried, baseline, max_drop, optimize)
        if refused is None:
            passed.append(tried)
        else:
            outcomes[tried.name] = refused
    if not passed:
        reason = _float_reason(candidates, outcomes)
        return Verdict(baseline.name, FLOAT, reason, True, {baseline.name: ("chosen", reason), **outcomes})
    best = max(passed, key=lambda tried: _gain(tried, baseline, optimize))
    for tried in passed:
        if tried is not best:
            outcomes[tried.name] = (
                "beaten",
                f"{_gained(tried, baseline, optimize)}; {best.name} is better: {_gained(best, baseline, optimize)}",
            )
    certified, judgement = _judgement(best, max_drop)
    reason = f"{best.name}: {_gained(best, baseline, optimize)}; {judgement}"
    outcomes[best.name] = ("chosen", reason)
    outcomes[baseline.name] = ("beaten", f"the float model itself; {best.name} is better: {_gained(best, baseline, optimize)}")
    return Verdict(best.name, best.kind, reason, certified, outcomes)


def gate(tried: Tried, baseline: Tried, max_drop: float, optimize: Optimize) -> tuple[Status, str] | None:
    """Why a candidate may not ship, or ``None``."""
    figures = tried.measurement
    if tried.failure is not None:
        return "failed", tried.failure
    if figures.metric_drop is not None and figures.metric_drop > max_drop:
        return "rejected", f"loses {_drop(figures)} of the metric on {tried.examples} examples; the budget is {max_drop:g}"
    # A SQNR of None means equal outputs.
    if figures.metric is None and figures.sqnr_db is not None and figures.sqnr_db < LEAST_SQNR_DB:
        return (
            "rejected",
            f"outputs are only {figures.sqnr_db:.1f} dB SQNR from float's (at least {LEAST_SQNR_DB:.0f} without a metric)",
        )
    if optimize == "latency" and figures.speedup is not None and figures.speedup_ci is not None and figures.speedup_ci[0] <= 1.0:
        word = "slower than float" if figures.speedup_ci[1] < 1.0 else "not faster than float beyond doubt"
        return "rejected", f"{word}: {figures.speedup:.2f}× [{figures.speedup_ci[0]:.2f}, {figures.speedup_ci[1]:.2f}]"
    if optimize == "size" and (figures.size_bytes or 0) >= (baseline.measurement.size_bytes or 0):
        return "rejected", f"not smaller than float: {_megabytes(figures)} against {_megabytes(baseline.measurement)}"
    return None


def _judgement(best: Tried, max_drop: float) -> tuple[bool, str]:
    """Whether the candidate is certified, and the sentence about its metric."""
    figures = best.measurement
    if figures.metric_drop is None or figures.metric_drop_ci is None:
        return False, "accepted without a metric, so what it loses in the task is not known"
    told = f"it loses {_drop(figures)} of the metric on {best.examples} examples (budget {max_drop:g})"
    if figures.metric_drop_ci[1] <= max_drop:
        return True, f"certified: {told}"
    needed = examples_to_certify(best.examples, figures.metric_drop, figures.metric_drop_ci, max_drop)
    more = f"certification would need about {needed} examples" if needed else "no number of examples would certify it"
    return False, f"accepted: {told}; {more}"


def _float_reason(candidates: Sequence[Tried], outcomes: dict[str, tuple[Status, str]]) -> str:
    if not candidates:
        return "float32 ships: nothing else suits this target and this model"
    counts: dict[str, int] = {}
    for status, text in outcomes.values():
        kind = "failed" if status == "failed" else text.split(":")[0].split(" of the metric")[0].split(" are only")[0]
        kind = "lost too much of the metric" if kind.startswith("loses") else kind
        counts[kind] = counts.get(kind, 0) + 1
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"float32 ships: of {len(candidates)} other candidates none passed ({listed})"


def _gain(tried: Tried, baseline: Tried, optimize: Optimize) -> float:
    figures = tried.measurement
    if optimize == "latency" and figures.speedup is not None:
        return figures.speedup
    return (baseline.measurement.size_bytes or 0) / max(figures.size_bytes or 1, 1)


def _gained(tried: Tried, baseline: Tried, optimize: Optimize) -> str:
    figures = tried.measurement
    if optimize == "latency" and figures.speedup is not None and figures.speedup_ci is not None:
        return f"{figures.speedup:.2f}× as fast as float [{figures.speedup_ci[0]:.2f}, {figures.speedup_ci[1]:.2f}]"
    share = (figures.size_bytes or 0) / max(baseline.measurement.size_bytes or 1, 1)
    return f"{share:.2f}× the size of float ({_megabytes(figures)})"


def _drop(figures: Measurement) -> str:
    if figures.metric_drop is None:
        return "an unknown part"
    low, high = figures.metric_drop_ci or (figures.metric_drop, figures.metric_drop)
    return f"{figures.metric_drop:.4f} [{low:.4f}, {high:.4f}]"


def _megabytes(figures: Measurement) -> str:
    return f"{(figures.size_bytes or 0) / 1e6:.2f} MB"
