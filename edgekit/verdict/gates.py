"""Gates: what a candidate must pass to ship."""

from dataclasses import dataclass

from edgekit.deployment import Status
from edgekit.evaluation import examples_to_settle
from edgekit.verdict.gains import Gains, told_drop
from edgekit.verdict.tried import Optimize, Tried

__all__ = ["LEAST_SQNR_DB", "Refusal", "accuracy_gate", "gate"]

# Without a metric there is still a floor: below this, outputs have little to do with the float model's.
LEAST_SQNR_DB = 20.0


@dataclass(frozen=True)
class Refusal:
    """Why a candidate may not ship.

    Attributes:
        status: ``failed``, ``rejected``, or ``beaten`` where the search left it early.
        gate: What it did not pass, in a few words, for counting.
        reason: In one sentence, with its figures.
    """

    status: Status
    gate: str
    reason: str


def gate(tried: Tried, baseline: Tried, max_drop: float, optimize: Optimize, *, empty_rss_bytes: int = 0) -> Refusal | None:
    """Why a candidate may not ship, or ``None``.

    Args:
        tried: The candidate.
        baseline: The float model.
        max_drop: What the metric may lose.
        optimize: What must be gained.
        empty_rss_bytes: Peak memory of a process without a model; 0 where it is not known.
    """
    if tried.failure is not None:
        return Refusal("failed", "failed", tried.failure)
    if tried.left is not None:
        return Refusal(tried.left.status, "left by the search", tried.left.reason)
    refusal = accuracy_gate(tried, baseline, max_drop)
    if refusal is not None:
        return refusal
    missing = Gains(baseline, optimize, empty_rss_bytes).missing(tried)
    return None if missing is None else Refusal("rejected", *missing)


def accuracy_gate(tried: Tried, baseline: Tried, max_drop: float) -> Refusal | None:
    """Why a candidate is not accurate enough, or ``None``."""
    figures = tried.measurement
    if baseline.measurement.metric is not None:
        if figures.metric_drop is None:
            return Refusal("rejected", "without a metric", "its metric was not measured, so what it loses is not known")
        if figures.metric_drop > max_drop:
            text = f"loses {told_drop(figures)} of the metric on {tried.examples} examples; the budget is {max_drop:g}"
            return Refusal("rejected", "lost too much of the metric", text + _doubt(tried, max_drop))
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


def _doubt(tried: Tried, max_drop: float) -> str:
    """How many examples would settle a rejection, where the interval reaches into the budget."""
    figures = tried.measurement
    if figures.metric_drop is None or figures.metric_drop_ci is None or figures.metric_drop_ci[0] > max_drop:
        return ""
    needed = examples_to_settle(tried.examples, figures.metric_drop, figures.metric_drop_ci, max_drop)
    how_many = f"about {needed} examples would tell" if needed else "no number of examples would tell"
    return f", which the interval reaches: {how_many} whether this was bad luck"
