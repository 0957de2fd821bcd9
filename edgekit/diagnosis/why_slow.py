"""Why a model is slow on this machine: where its time goes, and what of it is no work."""

from dataclasses import dataclass
from pathlib import Path

from edgekit.diagnosis.findings import Finding, ranked
from edgekit.diagnosis.layout_changes import layout_changes
from edgekit.diagnosis.memory_bound import memory_bound_weights
from edgekit.diagnosis.profile import profile
from edgekit.diagnosis.provider_partitions import provider_fallback, provider_partitions
from edgekit.diagnosis.slower_operators import slower_operators
from edgekit.diagnosis.surviving_conversions import surviving_conversions
from edgekit.diagnosis.thread_count import fitted, too_many_threads
from edgekit.recipe import Arrays
from edgekit_runtime.errors import ProviderError
from edgekit_runtime.session import CPU, Provider, SessionConfig, open_session

__all__ = ["Slow", "why_slow"]


@dataclass(frozen=True)
class Slow:
    """What was found about a model's time.

    Attributes:
        findings: Worst first.
        total_us: Sum of its nodes' times, with no more threads than cores.
        float_us: The same of the float model; ``None`` without one.
        notes: What could not be looked at.
    """

    findings: list[Finding]
    total_us: float
    float_us: float | None
    notes: list[str]


def why_slow(
    path: Path,
    provider: Provider | None = None,
    session: SessionConfig | None = None,
    *,
    feed: Arrays,
    float_path: Path | None = None,
) -> Slow:
    """Finds what of a model's time would be won if it were put right.

    Nodes are timed with no more threads than cores, so that what too many threads cost is told once, by itself.

    Args:
        path: The model.
        provider: What it runs on.
        session: How it is opened.
        feed: Inputs to time it on.
        float_path: The float model, for operators that lose against it.

    Raises:
        SessionError: It does not open or run.
    """
    provider, session = provider or Provider(), session or SessionConfig()
    findings: list[Finding | None] = []
    notes = []
    try:
        open_session(path, provider, session)
    except ProviderError as error:
        findings.append(provider_fallback(provider, str(error)))
        provider = Provider()
    findings.append(too_many_threads(path, provider, session, feed))
    session = fitted(session)
    seen = profile(path, provider, session, feed, float_path)
    if provider.name == CPU:
        findings += [
            surviving_conversions(seen),
            slower_operators(seen),
            layout_changes(seen),
            memory_bound_weights(seen),
        ]
    else:
        findings.append(provider_partitions(path, provider, session, seen.own.times))
        notes.append(f"what {provider.name} makes of the nodes that it takes cannot be seen")
    if float_path is None:
        notes.append("operators were not compared with float: that takes the float model; give --recipe, or --against FLOAT.onnx")
    float_us = seen.floating.total_us if seen.floating is not None else None
    return Slow(ranked([finding for finding in findings if finding is not None]), seen.own.total_us, float_us, notes)
