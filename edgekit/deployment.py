"""What `deploy` gives: every candidate with its figures, which one was chosen, and why."""

from typing import Any, Literal

import msgspec

from edgekit_runtime.measurement import Measurement

__all__ = ["CandidateResult", "Deployment", "ErrorHistogram", "Status"]

Status = Literal["chosen", "beaten", "rejected", "failed"]


class ErrorHistogram(msgspec.Struct, frozen=True):
    """How one output's errors against float are distributed.

    Attributes:
        output: The output's name.
        edges: Edges of the bins, one more than there are counts.
        counts: Values in each bin.
    """

    output: str
    edges: list[float]
    counts: list[int]


class CandidateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate, tried.

    Attributes:
        name: Reads as what it is, such as ``static-u8s8-minmax-linear``.
        status: ``chosen``; ``beaten`` by a better one; ``rejected`` by a gate; ``failed`` to build, load or run.
        reason: Why, in one sentence.
        measurement: Its figures.
        kind: What a verdict calls it: ``int8``, ``mixed``, ``float16``, ``float32``.
        examples: Evaluation examples behind its metric.
        errors: Distribution of its outputs' errors against float.
        notes: Warnings from building it, such as weights left in float.
    """

    name: str
    status: Status
    reason: str
    measurement: Measurement
    kind: str
    examples: int = 0
    errors: list[ErrorHistogram] = []
    notes: list[str] = []

    def document(self) -> dict[str, Any]:
        """The flat form of the command line's contract."""
        return {
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            **msgspec.to_builtins(self.measurement),
            "notes": list(self.notes),
        }


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `deploy`.

    Attributes:
        bundle: Where the bundle is.
        name: The recipe's name.
        target: The target's name.
        measured: How the target's latency was measured: ``real``, ``emulated``, ``software`` or ``static``.
        verdict: ``int8``, ``mixed``, ``float16``, … or ``float32``.
        reason: The verdict in a sentence or two.
        certified: Whether the lower end of the metric's interval is inside the budget, too.
        max_drop: The budget: what the metric may lose.
        optimize: ``latency`` or ``size``.
        baseline: The float model's figures.
        candidates: All candidates, in the order in which they were tried.
        claims_not_made: What could not be measured, each with the reason.
        environment: The machine and the versions.
        created: UTC time in ISO 8601.
    """

    bundle: str
    name: str
    target: str
    measured: str
    verdict: str
    reason: str
    certified: bool
    max_drop: float
    optimize: str
    baseline: Measurement
    candidates: list[CandidateResult]
    claims_not_made: list[str]
    environment: dict[str, str]
    created: str

    @property
    def chosen(self) -> CandidateResult:
        """The candidate that was shipped."""
        return next(candidate for candidate in self.candidates if candidate.status == "chosen")

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit deploy --json``."""
        return {
            "bundle": self.bundle,
            "target": self.target,
            "verdict": self.verdict,
            "reason": self.reason,
            "certified": self.certified,
            "baseline": msgspec.to_builtins(self.baseline),
            "chosen": {"name": self.chosen.name, **msgspec.to_builtins(self.chosen.measurement)},
            "candidates": [candidate.document() for candidate in self.candidates],
            "claims_not_made": list(self.claims_not_made),
        }
