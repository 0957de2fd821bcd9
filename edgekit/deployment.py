"""What `deploy` gives: every candidate with its figures, which one was chosen, and why."""

from typing import Any, Literal

import msgspec

from edgekit.inspection.sensitivity import Sensitivity
from edgekit_runtime.measurement import Measurement

__all__ = ["CandidateResult", "Deployment", "EarlierFigures", "ErrorHistogram", "OperatorTime", "ReportedFinding", "Status"]

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


class OperatorTime(msgspec.Struct, frozen=True):
    """What all nodes of one operator take in a call, in the float model and in what ships.

    Attributes:
        operator: Its type in the float graph, such as ``Conv``; what onnxruntime fuses or quantizes it into counts for it.
            ``conversions`` are between float and integers and between layouts of images.
        float_us: Microseconds in the float model; ``None`` where that has no such node.
        chosen_us: Microseconds in the chosen candidate; ``None`` where that has no such node.
    """

    operator: str
    float_us: float | None
    chosen_us: float | None


class ReportedFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of the diagnosis, as the report shows it.

    Attributes:
        name: The finding's kind in one word, for machines.
        kind: ``slow`` or ``wrong``.
        title: What was found, in one sentence.
        evidence: Figures and names behind it.
        advice: What to do.
        impact: How much it matters, between 0 and 1: findings are listed by it.
    """

    name: str
    kind: str
    title: str
    evidence: list[str] = []
    advice: str = ""
    impact: float = 0.0


class EarlierFigures(msgspec.Struct, frozen=True):
    """What of a search was not measured or built now, but taken from an earlier run.

    Attributes:
        measurements: How many measurements and built files.
        of: How many the search used in all.
    """

    measurements: int
    of: int


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
        stage: The stage of the search that it belongs to; empty where there was no search.
        provider: The execution provider that runs it.
        session: Its session options in words, where they are not the default's.
    """

    name: str
    status: Status
    reason: str
    measurement: Measurement
    kind: str
    examples: int = 0
    errors: list[ErrorHistogram] = []
    notes: list[str] = []
    stage: str = ""
    provider: str = ""
    session: str = ""

    def document(self) -> dict[str, Any]:
        """The flat form of the command line's contract."""
        return {
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            **msgspec.to_builtins(self.measurement),
            "notes": list(self.notes),
            "stage": self.stage,
            "provider": self.provider,
            "session": self.session,
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
        optimize: ``latency``, ``size`` or ``memory``.
        baseline: The float model's figures.
        candidates: All candidates, in the order in which they were tried.
        claims_not_made: What could not be measured, each with the reason.
        environment: The machine and the versions.
        created: UTC time in ISO 8601.
        front: Names of the candidates that no other one beats, of those inside the budget, float included.
        picked: Whether the user picked what ships by its name.
        empty_rss_bytes: Peak memory of a process that opens no model; ``None`` where it was not measured.
        operator_times: Time by operator, float against what ships, the longest first.
        sensitivity: What quantizing each node costs; ``None`` where that was not measured.
        findings: What the diagnosis found, what matters most first.
        seed: Seed of the search.
        budget_s: Seconds that the search might take; ``None`` for a run without a limit.
        spent_s: Seconds that it took.
        earlier_figures: What comes from an earlier run of the same search; ``None`` where everything was measured now.
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
    front: list[str] = []
    picked: bool = False
    empty_rss_bytes: int | None = None
    operator_times: list[OperatorTime] = []
    sensitivity: Sensitivity | None = None
    findings: list[ReportedFinding] = []
    seed: int | None = None
    budget_s: float | None = None
    spent_s: float | None = None
    earlier_figures: EarlierFigures | None = None

    @property
    def summary(self) -> str:
        """A paragraph that a manager can read: what ships, what it wins and costs, how sure that is, and what is not known."""
        from edgekit.summary import summarize

        return summarize(self)

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
            "summary": self.summary,
            "front": list(self.front),
            "picked": self.picked,
            "baseline": msgspec.to_builtins(self.baseline),
            "chosen": {"name": self.chosen.name, **msgspec.to_builtins(self.chosen.measurement)},
            "candidates": [candidate.document() for candidate in self.candidates],
            "claims_not_made": list(self.claims_not_made),
            "findings": msgspec.to_builtins(self.findings),
            "operator_times": msgspec.to_builtins(self.operator_times),
            "search": {"seed": self.seed, "budget_s": self.budget_s, "spent_s": self.spent_s},
            "earlier_figures": msgspec.to_builtins(self.earlier_figures),
        }
