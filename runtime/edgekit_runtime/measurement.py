"""What measuring one candidate gives."""

import math

import msgspec

__all__ = ["Interval", "Measurement", "finite"]

Interval = tuple[float, float]
"""Lower and upper end of a 95 % interval."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One candidate's figures; ``None`` for what was not measured, never NaN or infinity.

    Attributes:
        metric: The recipe's metric, higher is better.
        metric_drop: The float model's metric minus this one's.
        metric_drop_ci: Its paired 95 % bootstrap interval.
        latency_ms: Median of one call, in milliseconds.
        latency_p99_ms: 99th percentile of the same calls.
        speedup: The float model's median latency over this one's, both from the same interleaved rounds.
        speedup_ci: Its 95 % bootstrap interval over rounds.
        size_bytes: The model's own files.
        peak_rss_bytes: Peak resident memory of a fresh process that opened the model and ran it, interpreter included.
        cold_start_ms: Opening to first output in a fresh process, imports excluded, hash check included.
        max_abs_diff: Largest absolute difference of any output from the float model's.
        sqnr_db: Signal to quantization noise of all outputs together, in dB; ``None`` where they are equal.
        instructions: Instructions of one call with one thread, counted under emulation of the target's processor. It is no time.
    """

    metric: float | None = None
    metric_drop: float | None = None
    metric_drop_ci: Interval | None = None
    latency_ms: float | None = None
    latency_p99_ms: float | None = None
    speedup: float | None = None
    speedup_ci: Interval | None = None
    size_bytes: int | None = None
    peak_rss_bytes: int | None = None
    cold_start_ms: float | None = None
    max_abs_diff: float | None = None
    sqnr_db: float | None = None
    instructions: int | None = None


def finite(value: float) -> float | None:
    """`value` as a plain float, or ``None`` where it is NaN or infinite."""
    return float(value) if math.isfinite(value) else None
