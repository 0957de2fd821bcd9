"""A candidate as it was measured, and what can be wished for."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from edgekit_runtime.measurement import Measurement

__all__ = ["FLOAT", "Left", "Optimize", "Tried"]

Optimize = Literal["latency", "size", "memory", "instructions"]
"""What is to be gained; instructions stand for latency on a target that is emulated here, and nobody asks for them by name."""
FLOAT = "float32"


@dataclass(frozen=True)
class Left:
    """Why a search left a candidate before all was measured that a verdict needs.

    Attributes:
        status: ``rejected`` for what cannot pass a gate, ``beaten`` for what another one is better than.
        reason: In one sentence.
    """

    status: Literal["beaten", "rejected"]
    reason: str


@dataclass(frozen=True)
class Tried:
    """A candidate as it was measured.

    Attributes:
        name: Its name.
        kind: What a verdict calls it.
        measurement: Its figures.
        examples: Evaluation examples behind the metric.
        failure: Why it could not be built, loaded or run; ``None`` where it could.
        left: Why the search left it early; ``None`` where it did not.
    """

    name: str
    kind: str
    measurement: Measurement
    examples: int = 0
    failure: str | None = None
    left: Left | None = None

    @property
    def nearness(self) -> float:
        """How near its outputs are to float's, in dB."""
        figures = self.measurement
        if figures.sqnr_db is None:
            return inf if figures.max_abs_diff == 0.0 else -inf
        return figures.sqnr_db
