"""Certified or accepted: how sure it is that a candidate stays inside the budget."""

from edgekit.evaluation import examples_to_certify, fewest_to_certify
from edgekit.verdict.gains import told_drop
from edgekit.verdict.tried import Tried
from edgekit_runtime.measurement import Measurement

__all__ = ["is_certified", "judgement", "needed_to_certify"]


def is_certified(figures: Measurement, examples: int, baseline_metric: float | None, max_drop: float) -> bool:
    """Whether the worst end of the metric's interval is inside the budget, too, on enough examples to say so.

    Args:
        figures: The candidate's.
        examples: Evaluation examples behind its metric.
        baseline_metric: Float's metric.
        max_drop: The budget.
    """
    if figures.metric_drop is None or figures.metric_drop_ci is None or baseline_metric is None:
        return False
    fewest = fewest_to_certify(baseline_metric, max_drop)
    inside = figures.metric_drop <= max_drop and figures.metric_drop_ci[1] <= max_drop
    return inside and fewest is not None and examples >= fewest


def needed_to_certify(figures: Measurement, examples: int, baseline_metric: float | None, max_drop: float) -> int | None:
    """How many examples would certify a candidate, were its drop to stay; ``None`` where no number would, or without a metric."""
    if figures.metric_drop is None or figures.metric_drop_ci is None or baseline_metric is None or examples < 1:
        return None
    fewest = fewest_to_certify(baseline_metric, max_drop)
    needed = examples_to_certify(examples, figures.metric_drop, figures.metric_drop_ci, max_drop)
    return None if needed is None or fewest is None else max(needed, fewest)


def judgement(best: Tried, baseline: Tried, max_drop: float) -> tuple[bool, str]:
    """Whether the candidate is certified, and the sentence about its metric."""
    figures, metric = best.measurement, baseline.measurement.metric
    if figures.metric_drop is None and metric is not None:
        return False, "its metric was not measured, so what it loses in the task is not known"
    if figures.metric_drop is None:
        return False, "accepted without a metric, so what it loses in the task is not known"
    told = f"it {_lost(figures)} of the metric on {best.examples} examples (budget {max_drop:g})"
    if figures.metric_drop > max_drop:
        return False, f"outside the budget: {told}"
    if is_certified(figures, best.examples, metric, max_drop):
        return True, f"certified: {told}"
    needed = needed_to_certify(figures, best.examples, metric, max_drop)
    more = "no number of examples would certify it" if needed is None else f"certification would need about {needed} examples"
    return False, f"accepted: {told}; {more}"


def _lost(figures: Measurement) -> str:
    """What happened to the metric: a negative loss is a gain, and is told as one."""
    drop = figures.metric_drop or 0.0
    low, high = figures.metric_drop_ci or (drop, drop)
    return f"gains {-drop:.4f} [{-high:.4f}, {-low:.4f}]" if drop < 0 else f"loses {told_drop(figures)}"
