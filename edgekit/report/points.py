"""What the plot of metric drop against latency shows."""

from dataclasses import dataclass

from edgekit.deployment import Deployment
from edgekit.report.numbers import significant
from edgekit.report.svg import CHOSEN, INK, MUTED, REJECTED
from edgekit.report.words import is_float_itself

__all__ = ["Point", "points_of", "why_no_plot"]

INKS = {"float": INK, "chosen": CHOSEN, "beaten": MUTED, "rejected": REJECTED, "failed": REJECTED}


@dataclass(frozen=True)
class Point:
    """One model in the plot.

    Attributes:
        number: Its row in the table of candidates; ``None`` for a float model that is not a candidate.
        name: The candidate's name.
        role: Its status, or ``float`` for the model that all others are compared with.
        latency_ms: Median of one call.
        latency_ci: The interval of its speedup, as latencies.
        drop: What it loses of the metric.
        drop_ci: The interval of that.
    """

    number: int | None
    name: str
    role: str
    latency_ms: float
    latency_ci: tuple[float, float] | None
    drop: float
    drop_ci: tuple[float, float] | None

    @property
    def ink(self) -> str:
        """The colour of its role."""
        return INKS[self.role]

    @property
    def gid(self) -> str:
        """The id of its mark in the plot."""
        return f"point-{self.number or 0}"

    @property
    def tooltip(self) -> str:
        """What pointing at it says."""
        number = f"{self.number} · " if self.number else ""
        figures = f"{significant(self.latency_ms)} ms, metric drop {significant(self.drop)}"
        return f"{number}{self.name} ({self.role}): {figures}"

    def label(self, named: bool, room: int = 36) -> str:
        """Its number and, if `named`, its name, in characters that every font has."""
        if self.number is None:
            return "float"
        name = " ".join(self.name.encode("ascii", "replace").decode().split())
        name = "".join(letter if letter.isprintable() else "?" for letter in name)
        name = name if len(name) <= room else f"{name[: room - 1]}…"
        if self.role == "float":
            return f"{self.number} {name}" if named else f"{self.number} float"
        return f"{self.number} {name}" if named else str(self.number)


def points_of(deployment: Deployment) -> list[Point]:
    """The float model, and every candidate with both a metric and a latency."""
    points = []
    baseline = deployment.baseline
    listed = any(is_float_itself(candidate, baseline) for candidate in deployment.candidates)
    if not listed and baseline.latency_ms and baseline.metric is not None:
        points.append(Point(None, "float", "float", baseline.latency_ms, None, 0.0, None))
    for number, candidate in enumerate(deployment.candidates, 1):
        figures = candidate.measurement
        if figures.metric_drop is None or not figures.latency_ms:
            continue
        latency_ci = None
        if figures.speedup and figures.speedup_ci and min(figures.speedup_ci) > 0:
            low, high = figures.speedup_ci
            latency_ci = (figures.latency_ms * figures.speedup / high, figures.latency_ms * figures.speedup / low)
        is_float = is_float_itself(candidate, baseline)
        points.append(
            Point(
                number,
                candidate.name,
                "float" if is_float else candidate.status,
                figures.latency_ms,
                None if is_float else latency_ci,
                figures.metric_drop,
                None if is_float else figures.metric_drop_ci,
            )
        )
    return points


def why_no_plot(deployment: Deployment) -> str:
    """A sentence where there is nothing to draw, otherwise nothing."""
    candidates = [candidate for candidate in deployment.candidates if not is_float_itself(candidate, deployment.baseline)]
    if any(c.measurement.metric_drop is not None and c.measurement.latency_ms for c in candidates):
        return ""
    if not candidates:
        return "There is no plot, because float was the only candidate."
    missing = []
    if all(candidate.measurement.metric_drop is None for candidate in candidates):
        missing.append("the metric")
    if not any(candidate.measurement.latency_ms for candidate in candidates):
        missing.append("latency")
    if not missing:
        return "There is no plot of metric drop against latency, because no candidate has both figures."
    verb = "were" if len(missing) > 1 else "was"
    return f"There is no plot of metric drop against latency, because {' and '.join(missing)} {verb} not measured."
