"""What the plot of metric drop against latency shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.deployment import Deployment
from edgekit.report.numbers import significant
from edgekit.report.svg import CHOSEN, INK, MUTED, REJECTED
from edgekit.report.words import certainty, is_float_itself

__all__ = ["Point", "Untested", "front_line", "points_of", "untested_of", "why_no_plot"]

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
        certainty: ``certified`` or ``accepted`` where it is inside the budget.
        on_front: Whether no other candidate beats it.
    """

    number: int | None
    name: str
    role: str
    latency_ms: float
    latency_ci: tuple[float, float] | None
    drop: float
    drop_ci: tuple[float, float] | None
    certainty: str = ""
    on_front: bool = False

    @property
    def kind(self) -> str:
        """Its role, and how sure it is where it passed: what the key of the plot tells apart."""
        return f"{self.role}, {self.certainty}" if self.role in ("chosen", "beaten") and self.certainty else self.role

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
        return f"{number}{self.name} ({self.kind}): {figures}"

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
                certainty(candidate, deployment),
                candidate.name in deployment.front,
            )
        )
    return points


@dataclass(frozen=True)
class Untested:
    """A candidate that the search left before its metric was measured: a mark on the latency axis."""

    number: int
    name: str
    latency_ms: float

    @property
    def gid(self) -> str:
        """The id of its mark in the plot."""
        return f"untested-{self.number}"

    @property
    def tooltip(self) -> str:
        """What pointing at it says."""
        return f"{self.number} · {self.name} (metric not measured): {significant(self.latency_ms)} ms"


def untested_of(deployment: Deployment, points: Sequence[Point]) -> list[Untested]:
    """Candidates with a latency alone, as far as that is between those of the points: they stretch no axis."""
    if not points:
        return []
    latencies = [point.latency_ms for point in points]
    low, high = min(latencies), max(latencies)
    found = []
    for number, candidate in enumerate(deployment.candidates, 1):
        figures = candidate.measurement
        if figures.metric_drop is None and figures.latency_ms and low <= figures.latency_ms <= high:
            found.append(Untested(number, candidate.name, figures.latency_ms))
    return found


def front_line(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Latency and drop of those of the front that no other one of it beats in these two, the fastest first.

    The others of the front are on it for their size or their memory.
    """
    line: list[tuple[float, float]] = []
    for point in sorted((point for point in points if point.on_front), key=lambda point: (point.latency_ms, point.drop)):
        if not line or point.drop < line[-1][1]:
            line.append((point.latency_ms, point.drop))
    return line


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
