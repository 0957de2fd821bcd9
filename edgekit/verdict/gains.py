"""What a candidate gains over float: by how much, whether that is more than noise, and how it is told."""

from dataclasses import dataclass
from math import inf

from edgekit.verdict.tried import Optimize, Tried
from edgekit_runtime.measurement import Measurement

__all__ = ["MEMORY_NOISE_BYTES", "SAME_GAIN", "Gains", "ratio", "told_drop"]

# Gains this close are one gain, told apart by noise; the candidate whose outputs are nearest to float's is taken then.
SAME_GAIN: dict[Optimize, float] = {"latency": 1.02, "size": 1.05, "memory": 1.05, "instructions": 1.02}
SAME: dict[Optimize, str] = {
    "latency": "as fast within 2 %",
    "size": "as small within 5 %",
    "memory": "as sparing of memory within 5 %",
    "instructions": "as sparing of instructions within 2 %",
}
# Fresh processes around one and the same model differ by some hundred kilobytes.
MEMORY_NOISE_BYTES = 1_000_000
MORE = "more instructions than float"


@dataclass(frozen=True)
class Gains:
    """Gains over one float model.

    Attributes:
        baseline: The float model.
        optimize: What is to be gained.
        empty_rss_bytes: Peak memory of a process that opens no model to speak of. It is part of every peak memory, and no
            candidate can save it, so memory is compared above it; 0 where it is not known, which makes gains look smaller.
    """

    baseline: Tried
    optimize: Optimize
    empty_rss_bytes: int = 0

    def of(self, tried: Tried) -> float:
        """How many times faster, smaller or more sparing of memory or instructions than float; 0 where that was not measured."""
        figures = tried.measurement
        if self.optimize == "latency":
            return figures.speedup or 0.0
        if self.optimize == "size":
            return (self.baseline.measurement.size_bytes or 0) / max(figures.size_bytes or 1, 1)
        if self.optimize == "instructions":
            return (self.baseline.measurement.instructions or 0) / figures.instructions if figures.instructions else 0.0
        if figures.peak_rss_bytes is None:
            return 0.0
        return (self.above_empty(self.baseline.measurement) or 0) / max(self.above_empty(figures) or 1, 1)

    def is_most(self, tried: Tried, most: float) -> bool:
        """Whether a candidate gains as much as the one that gains `most`, within noise."""
        return self.of(tried) * SAME_GAIN[self.optimize] >= most

    def above_empty(self, figures: Measurement) -> int | None:
        """Peak memory above the empty process, in bytes."""
        return None if figures.peak_rss_bytes is None else max(figures.peak_rss_bytes - self.empty_rss_bytes, 1)

    def missing(self, tried: Tried) -> tuple[str, str] | None:
        """What a candidate lacks to be a gain, in a few words and in a sentence; ``None`` where it is one."""
        figures = tried.measurement
        if self.optimize == "size":
            return self._missing_size(figures)
        if self.optimize == "memory":
            return self._missing_memory(figures)
        if self.optimize == "instructions":
            return self._missing_instructions(tried)
        if figures.speedup is None or figures.speedup_ci is None:
            return "not timed", "its latency was not measured, so whether it gains anything is not known"
        if figures.speedup_ci[0] <= 1.0:
            word = "slower than float" if figures.speedup_ci[1] < 1.0 else "not faster than float beyond doubt"
            return word, f"{word}: {ratio(figures)}"
        if figures.speedup < SAME_GAIN["latency"]:
            word = "as fast as float within 2 %"
            return word, f"{word}: {ratio(figures)}"
        return None

    def _missing_size(self, figures: Measurement) -> tuple[str, str] | None:
        size, before = figures.size_bytes, self.baseline.measurement.size_bytes
        if size is not None and before is not None and size < before:
            return None
        return "not smaller than float", f"not smaller than float: {_megabytes(size)} against {_megabytes(before)}"

    def _missing_instructions(self, tried: Tried) -> tuple[str, str] | None:
        if not tried.measurement.instructions or not self.baseline.measurement.instructions:
            return "not counted", "its instructions were not counted, so whether it gains anything is not known"
        if self.of(tried) >= SAME_GAIN["instructions"]:
            return None
        word = "as many instructions as float within 2 %" if self.of(tried) > 1 / SAME_GAIN["instructions"] else MORE
        return word, f"{word}: {_millions(tried.measurement)} against {_millions(self.baseline.measurement)} a call"

    def _missing_memory(self, figures: Measurement) -> tuple[str, str] | None:
        needed, before = self.above_empty(figures), self.above_empty(self.baseline.measurement)
        if needed is None or before is None:
            return "memory not measured", "its memory was not measured, so whether it gains anything is not known"
        if needed > before - MEMORY_NOISE_BYTES:
            word = "more memory than float" if needed > before + MEMORY_NOISE_BYTES else "as much memory as float within 1 MB"
            return word, f"{word}: {_megabytes(needed)} against {_megabytes(before)}{self._above()}"
        if before < needed * SAME_GAIN["memory"]:
            word = "as much memory as float within 5 %"
            return word, f"{word}: {_megabytes(needed)} against {_megabytes(before)}{self._above()}"
        return None

    def told(self, tried: Tried) -> str:
        """What a candidate gains, with figures; whoever asked for a small model is told what it costs in time."""
        figures = tried.measurement
        if self.optimize == "latency":
            return _speed(figures)
        if self.optimize == "instructions":
            if not self.of(tried):
                return "its instructions were not counted"
            share = 1 / self.of(tried)
            return f"{share:.2f}× the instructions of float ({_millions(figures)} a call; no times)"
        if self.optimize == "size":
            share = (figures.size_bytes or 0) / max(self.baseline.measurement.size_bytes or 1, 1)
            gain = f"{share:.2f}× the size of float ({_megabytes(figures.size_bytes)})"
        else:
            needed = self.above_empty(figures)
            share = (needed or 0) / max(self.above_empty(self.baseline.measurement) or 1, 1)
            gain = f"{share:.2f}× the memory of float ({_megabytes(needed)}{self._above()})"
        return gain if figures.speedup is None else f"{gain}, {_speed(figures)}"

    def better(self, best: Tried, other: Tried) -> str:
        """Why `best` is taken and `other` is not."""
        if self.of(best) > self.of(other) * SAME_GAIN[self.optimize]:
            return f"{best.name} is better: {self.told(best)}"
        if (
            self.optimize != "latency"
            and (best.measurement.speedup or 0.0) > (other.measurement.speedup or 0.0) * SAME_GAIN["latency"]
        ):
            return f"{best.name} is {SAME[self.optimize]} and faster: {_speed(best.measurement)}"
        nearer = "nearer" if best.nearness > other.nearness else "as near" if best.nearness == other.nearness else None
        if nearer is None:
            return f"{best.name} is {SAME[self.optimize]} and better in what else was measured"
        return f"{best.name} is {SAME[self.optimize]} and {nearer} to float's outputs"

    def _above(self) -> str:
        return f" above the {_megabytes(self.empty_rss_bytes)} of an empty process" if self.empty_rss_bytes else ""


def ratio(figures: Measurement) -> str:
    """The speed-up with its interval."""
    low, high = figures.speedup_ci or (0.0, inf)
    return f"{figures.speedup or 0.0:.2f}× [{low:.2f}, {high:.2f}]"


def told_drop(figures: Measurement) -> str:
    """What is lost of the metric, with its interval."""
    if figures.metric_drop is None:
        return "an unknown part"
    low, high = figures.metric_drop_ci or (figures.metric_drop, figures.metric_drop)
    return f"{figures.metric_drop:.4f} [{low:.4f}, {high:.4f}]"


def _speed(figures: Measurement) -> str:
    return ratio(figures).replace("×", "× as fast as float")


def _millions(figures: Measurement) -> str:
    return f"{(figures.instructions or 0) / 1e6:.2f} M"


def _megabytes(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / 1e6:.2f} MB"
