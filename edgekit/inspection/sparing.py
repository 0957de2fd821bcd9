"""Sparing: the fewest groups of nodes to leave float so that the rest of a scheme stays inside a bound."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from edgekit.inspection.sensitivity_study import Score, Study
from edgekit.progress import Progress, Quiet
from edgekit_runtime.errors import QuantizationError

if TYPE_CHECKING:
    from edgekit_export.sensitivity import Group

__all__ = ["Spared", "spare_until"]

# Candidates that are measured anew in each round; the others keep the figure of an earlier one.
LOOKED_AT = 6


@dataclass(frozen=True)
class Spared:
    """What to leave float.

    Attributes:
        nodes: Names of nodes in the graph's order, for `StaticInt8.spared`.
        sqnr_db: Of the outputs with them spared; infinite where these equal float's.
        metric: The metric then; ``None`` where there is none.
        reached: Whether the bound holds.
    """

    nodes: tuple[str, ...]
    sqnr_db: float
    metric: float | None
    reached: bool


def spare_until(
    study: Study,
    *,
    sqnr_db: float | None = None,
    metric_drop: float | None = None,
    most: int | None = None,
    progress: Progress | None = None,
) -> Spared:
    """Spares one group after the other until the bounds hold, and takes back what was not needed.

    Greedy: each round measures those groups that won most when they were last looked at, and the neighbours of the group that was
    spared last, since a tensor stays rounded until all that touches it is spared. That is no proof of the least set; a
    smaller one would have to be found by trying all of them.

    Args:
        study: The graph and the examples; choices that it measured before cost nothing.
        sqnr_db: What the outputs' SQNR must reach.
        metric_drop: What the metric may lose against float on the study's examples.
        most: How many groups may be spared.
        progress: Told how many are.

    Raises:
        QuantizationError: No bound is given, or a metric is bounded that there is none of.
    """
    if sqnr_db is None and metric_drop is None:
        raise QuantizationError("spare: give an SQNR to reach, a metric drop to keep to, or both")
    floats = study.measure(()).metric
    if metric_drop is not None and floats is None:
        raise QuantizationError("spare: a metric drop is bounded, and there is no metric on the study's examples")
    progress = progress or Quiet()
    everything = study.switchable.nodes
    groups = [group for group in study.switchable.groups if group.kind == "node"]
    most = len(groups) if most is None else most

    def scored(spared: Sequence["Group"]) -> Score:
        names = {name for group in spared for name in group.nodes}
        return study.measure([name for name in everything if name not in names])

    def holds(score: Score) -> bool:
        lost = inf if floats is None or score.metric is None else floats - score.metric
        return (sqnr_db is None or score.sqnr_db >= sqnr_db) and (metric_drop is None or lost <= metric_drop)

    chosen: list[Group] = []
    score = scored(chosen)
    known = {group.name: scored([group]).sqnr_db - score.sqnr_db for group in groups} if not holds(score) else {}
    progress.stage("spare the worst groups of nodes")
    while not holds(score) and len(chosen) < most and len(chosen) < len(groups):
        left = [group for group in groups if group not in chosen]
        left.sort(key=lambda group: -known[group.name])
        near = [group for group in left[LOOKED_AT:] if chosen and study.switchable.neighbours(group, chosen[-1])]
        for group in (*left[:LOOKED_AT], *near):
            known[group.name] = scored([*chosen, group]).sqnr_db - score.sqnr_db
        chosen.append(max((*left[:LOOKED_AT], *near), key=lambda group: known[group.name]))
        score = scored(chosen)
        progress.advance(len(chosen), most)
    reached = holds(score)
    if reached:
        for group in list(chosen):
            without = [other for other in chosen if other is not group]
            if holds(scored(without)):
                chosen = without
        score = scored(chosen)
    names = {name for group in chosen for name in group.nodes}
    return Spared(tuple(name for name in everything if name in names), score.sqnr_db, score.metric, reached)
