"""Findings, and the one scale on which slow ones and wrong ones are ranked.

Impact is a share of the whole, 0 to 1. Of a slow finding it is the share of the latency that would be won. Of a wrong one it is
the share of the output that is wrong (the error's rms over the output's, at most 1) times the share of that error's power which
goes away with the cause. So 10 % of the time and an error of a tenth of the output, 20 dB, weigh the same.
"""

from typing import Any, Literal

import msgspec

__all__ = ["LEAST_IMPACT", "Diagnosis", "Finding", "ranked"]

LEAST_IMPACT = 0.005
"""Half a percent of the latency is inside the spread of any timing, and half a percent of the output is 46 dB."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One cause.

    Attributes:
        name: A fixed name, such as ``surviving-qdq``.
        kind: Whether it costs time or accuracy.
        impact: What it accounts for, 0 to 1; see the module.
        title: What is the matter, in a sentence.
        evidence: What was measured.
        advice: What to do.
        nodes: Names of nodes or tensors that it is about, worst first.
    """

    name: str
    kind: Literal["slow", "wrong"]
    impact: float
    title: str
    evidence: list[str]
    advice: str
    nodes: list[str] = []


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What `diagnose` found.

    Attributes:
        path: What was looked at.
        provider: The execution provider that it ran on.
        threads: Intra-op threads that it asks for.
        latency_ms: Sum of its nodes' times in onnxruntime's profile; ``None`` where it could not be taken.
        float_latency_ms: The same of the float model.
        sqnr_db: Its outputs against the float model's; ``None`` without one, or where they are equal.
        findings: Worst first.
        notes: What could not be looked at, and why.
    """

    path: str
    provider: str
    threads: int
    latency_ms: float | None
    float_latency_ms: float | None
    sqnr_db: float | None
    findings: list[Finding]
    notes: list[str]

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit inspect --why --json``."""
        return dict(msgspec.json.decode(msgspec.json.encode(self)))


def ranked(findings: list[Finding]) -> list[Finding]:
    """The findings that matter, worst first."""
    return sorted((finding for finding in findings if finding.impact >= LEAST_IMPACT), key=lambda finding: -finding.impact)
