"""Two models side by side, and the conditions on the second that a build may be stopped by."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgspec

from edgekit.verdict.certainty import is_certified, needed_to_certify
from edgekit_runtime.errors import EvaluationError
from edgekit_runtime.measurement import Measurement

__all__ = ["Comparison", "Gate", "Limits"]


class Gate(msgspec.Struct, frozen=True):
    """One condition.

    Attributes:
        name: Which one, as the option is called.
        value: What was found; ``None`` where that is beyond all figures, such as the SQNR of equal outputs.
        limit: What was asked for.
        holds: Whether it holds.
        detail: The figures behind it, in words.
    """

    name: str
    value: float | None
    limit: float
    holds: bool
    detail: str = ""

    @property
    def told(self) -> str:
        """The condition and what was found, in one line."""
        found = "equal" if self.value is None else f"{self.value:.4f}"
        return f"{self.name}: {found}, limit {self.limit:g}" + (f" ({self.detail})" if self.detail else "")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two models side by side; drops, speed-up and differences are B's against A.

    Attributes:
        a: Path of the first.
        b: Path of the second.
        figures_a: Its figures.
        figures_b: The second's.
        examples: Evaluation examples behind the metric.
        gates: The conditions that were asked for.
        junit: Where they were written for a build server; ``None`` where that was not asked for.
    """

    a: str
    b: str
    figures_a: Measurement
    figures_b: Measurement
    examples: int
    gates: list[Gate]
    junit: str | None = None

    @property
    def passed(self) -> bool:
        """Whether all gates hold."""
        return all(gate.holds for gate in self.gates)

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit compare --json``."""
        return {
            "a": {"path": self.a, **msgspec.to_builtins(self.figures_a)},
            "b": {"path": self.b, **msgspec.to_builtins(self.figures_b)},
            "examples": self.examples,
            "gates": msgspec.to_builtins(self.gates),
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Limits:
    """What is asked of B against A; ``None`` where nothing is.

    Attributes:
        max_drop: What B may lose of the metric.
        certified: Whether the worst end of what it loses must be inside `max_drop`, too, on enough examples to say so.
        min_speedup: How many times as fast as A it must be, at the lower end of the interval: noise is no gain.
        max_size_ratio: How many times A's files its own may weigh.
        min_sqnr_db: How near to A's its outputs must be.

    Raises:
        EvaluationError: A limit is no finite number of at least 0, or `certified` has no budget.
    """

    max_drop: float | None = None
    certified: bool = False
    min_speedup: float | None = None
    max_size_ratio: float | None = None
    min_sqnr_db: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_drop", "min_speedup", "max_size_ratio", "min_sqnr_db"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and (value >= 0 or name == "min_sqnr_db")):
                raise EvaluationError(f"compare: {name}={value}, expected a finite number of at least 0")
        if self.certified and self.max_drop is None:
            raise EvaluationError("compare --require-certified: give the budget that B is to be certified for with --max-drop")

    @property
    def need_metric(self) -> bool:
        """Whether any of them is about the metric."""
        return self.max_drop is not None

    def gates(self, a: Measurement, b: Measurement, examples: int) -> list[Gate]:
        """Each limit that was given, with what was found."""
        return [
            *self._accuracy(a, b, examples),
            *self._latency(a, b),
            *self._size(a, b),
            *self._parity(b),
        ]

    def _accuracy(self, a: Measurement, b: Measurement, examples: int) -> list[Gate]:
        if self.max_drop is None or b.metric_drop is None:
            return []
        low, high = b.metric_drop_ci or (b.metric_drop, b.metric_drop)
        figures = f"metric {a.metric:.4f} and {b.metric:.4f}, lost [{low:.4f}, {high:.4f}] on {examples} examples"
        gates = [Gate("max_drop", b.metric_drop, self.max_drop, b.metric_drop <= self.max_drop, figures)]
        if self.certified:
            holds = is_certified(b, examples, a.metric, self.max_drop)
            needed = needed_to_certify(b, examples, a.metric, self.max_drop)
            more = f"certification would need about {needed} examples" if needed else "no number of examples would certify it"
            detail = f"worst end of what is lost, on {examples} examples" + ("" if holds else f"; {more}")
            gates.append(Gate("certified", high, self.max_drop, holds, detail))
        return gates

    def _latency(self, a: Measurement, b: Measurement) -> list[Gate]:
        if self.min_speedup is None or b.speedup is None:
            return []
        low, high = b.speedup_ci or (b.speedup, b.speedup)
        detail = f"lower end of {b.speedup:.2f}× [{low:.2f}, {high:.2f}]; {a.latency_ms:.4g} ms and {b.latency_ms:.4g} ms"
        return [Gate("min_speedup", low, self.min_speedup, low >= self.min_speedup, detail)]

    def _size(self, a: Measurement, b: Measurement) -> list[Gate]:
        if self.max_size_ratio is None or not a.size_bytes or b.size_bytes is None:
            return []
        found = b.size_bytes / a.size_bytes
        detail = f"{a.size_bytes} and {b.size_bytes} bytes"
        return [Gate("max_size_ratio", found, self.max_size_ratio, found <= self.max_size_ratio, detail)]

    def _parity(self, b: Measurement) -> list[Gate]:
        if self.min_sqnr_db is None:
            return []
        if b.max_abs_diff == 0.0:
            return [Gate("min_sqnr_db", None, self.min_sqnr_db, holds=True, detail="the outputs are equal")]
        if b.sqnr_db is None:
            # Infinitely far, or nothing to compare with: no figure, and no pass.
            return [Gate("min_sqnr_db", 0.0, self.min_sqnr_db, holds=False, detail="the outputs cannot be compared")]
        detail = f"largest difference {b.max_abs_diff:.4g}"
        return [Gate("min_sqnr_db", b.sqnr_db, self.min_sqnr_db, b.sqnr_db >= self.min_sqnr_db, detail)]
