"""A histogram that needs no range and merges exactly: its bins are the leading bits of a float.

Sign, exponent and the first seven bits of the fraction of a float32 are its upper 16 bits, so the bin of a value comes out of a
shift, and every octave has 128 bins: 0.4 to 0.8 % of the value each, wherever it lies. Bins of equal width, as
onnxruntime's calibrators have them, put everything but the outliers into a handful of bins where one value is a hundred times the
others. Kept are the 16 octaves below the largest value; what is smaller than that (a 256th of a step of 8 bits) counts as
zero. A bin is the same for all tensors and all data, and what counts as zero follows from the largest value alone: shards, in
any order, give the counts of one pass.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from edgekit_export.calibration.exact_mean import ExactMean

__all__ = ["BINS", "Histogram", "keys_of"]

BINS_PER_OCTAVE = 128
OCTAVES = 16
BINS = BINS_PER_OCTAVE * OCTAVES
"""Bins of each sign."""
SMALLEST_TOP = 87
"""Biased exponent of 2⁻⁴⁰: tensors that stay below that are all but zero, and need no finer bins."""
SIGN = 1 << 15


@dataclass
class Histogram:
    """What calibration keeps of one tensor.

    Attributes:
        minimum: Smallest value seen.
        maximum: Largest value seen.
        top: Biased exponent (0 to 254) of the octave of the largest magnitude.
        counts: Values per bin, int64, (2, BINS): magnitudes of positive values, then of negative ones, smallest first.
        zeros: Values that are zero or too small for a bin.
        lows: Mean of the smallest values of the examples.
        highs: Mean of the largest values of the examples.
    """

    minimum: float = math.inf
    maximum: float = -math.inf
    top: int = SMALLEST_TOP
    counts: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS), np.int64))
    zeros: int = 0
    lows: ExactMean = field(default_factory=ExactMean)
    highs: ExactMean = field(default_factory=ExactMean)

    @property
    def seen(self) -> bool:
        """Whether any value was added."""
        return self.minimum <= self.maximum

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins of one sign, float64, (BINS + 1,), smallest first."""
        codes = (np.arange(BINS + 1, dtype=np.uint32) + np.uint32(self._first)) << np.uint32(16)
        edges = codes.view(np.float32).astype(np.float64)
        edges[-1] = math.ldexp(1.0, self.top - 126)  # where the top octave is the last of float32, the code is infinity's
        return edges

    def add(self, values: np.ndarray) -> None:
        """Adds one example's finite values, of any shape, all of them counted."""
        if values.size:
            self.see([(float(values.min()), float(values.max()))])
            self.count(keys_of(values))

    def see(self, extremes: list[tuple[float, float]]) -> None:
        """Takes note of the smallest and the largest value of some examples, one pair each."""
        for low, high in extremes:
            # Minus zero would depend on the order.
            self.minimum, self.maximum = min(self.minimum, low + 0.0), max(self.maximum, high + 0.0)
        self.lows.add(low for low, _ in extremes)
        self.highs.add(high for _, high in extremes)
        if self.seen:
            self._grow_to(_octave(max(-self.minimum, self.maximum)))

    def count(self, keys: np.ndarray) -> None:
        """Counts values by `keys_of` them; none may lie beyond what `see` was told."""
        counted = np.bincount(keys, minlength=2 * SIGN).reshape(2, SIGN)
        self.counts += counted[:, self._first : self._first + BINS]
        self.zeros += int(counted[:, : self._first].sum())

    def merge(self, other: "Histogram") -> None:
        """Adds what another histogram saw."""
        if not other.seen:
            return
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.lows.merge(other.lows)
        self.highs.merge(other.highs)
        self._grow_to(other.top)
        counts, zeros = _moved(other.counts, self.top - other.top)
        self.counts = self.counts + counts
        self.zeros += other.zeros + zeros

    @property
    def _first(self) -> int:
        """Code of the smallest bin."""
        return (self.top + 1 - OCTAVES) * BINS_PER_OCTAVE

    def _grow_to(self, top: int) -> None:
        if top > self.top:
            self.counts, zeros = _moved(self.counts, top - self.top)
            self.zeros += zeros
            self.top = top


def keys_of(values: np.ndarray) -> np.ndarray:
    """Bins of finite values: uint16, (values,), sign first; what float32 cannot hold goes to its largest value's bin."""
    if values.dtype != np.float32:
        largest = np.finfo(np.float32).max
        values = np.clip(values, -largest, largest).astype(np.float32)
    bits = np.ascontiguousarray(values).reshape(-1).view(np.uint32)
    return (bits >> np.uint32(16)).astype(np.uint16)


def _octave(largest: float) -> int:
    """Biased exponent of a magnitude as float32 holds it."""
    held = np.float32(min(abs(largest), float(np.finfo(np.float32).max)))
    return max(SMALLEST_TOP, int(held.view(np.uint32)) >> 23)


def _moved(counts: np.ndarray, octaves: int) -> tuple[np.ndarray, int]:
    """Counts (2, BINS) seen from a window that lies higher, and how many values it leaves below."""
    bins = min(octaves * BINS_PER_OCTAVE, BINS)
    moved = np.zeros_like(counts)
    moved[:, : BINS - bins] = counts[:, bins:]
    return moved, int(counts[:, :bins].sum())
