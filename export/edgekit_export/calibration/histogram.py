"""A histogram that grows with its data and that merges exactly.

Bins are symmetric about zero and their outer edge is a power of two. When a value falls outside, the edge doubles and
neighbouring bins are added in pairs, so that the counts are those of a histogram which had the final edge from the start:
one pass over shards, in any order, gives the same counts as one pass over all of the data.
"""

import math
from dataclasses import dataclass, field

import numpy as np

__all__ = ["BINS", "Histogram"]

BINS = 2048
SMALLEST_EXPONENT = -40


@dataclass
class Histogram:
    """Counts of one tensor's values.

    Attributes:
        minimum: Smallest value seen.
        maximum: Largest value seen.
        exponent: The outer edge is two to this power.
        counts: Values per bin, int64, from −edge to +edge.
    """

    minimum: float = math.inf
    maximum: float = -math.inf
    exponent: int = SMALLEST_EXPONENT
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def edge(self) -> float:
        """The outer edge."""
        return math.ldexp(1.0, self.exponent)

    @property
    def seen(self) -> bool:
        """Whether any value was added."""
        return self.minimum <= self.maximum

    def add(self, values: np.ndarray) -> None:
        """Adds finite values of any shape."""
        if values.size == 0:
            return
        flat = values.ravel()
        low, high = float(flat.min()), float(flat.max())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._grow_to(_exponent(max(-low, high)))
        # Scaled by a power of two, which is exact, and shifted as integers: a sum with the edge would round a small negative
        # value to zero, into another bin than the one it has where the edge is small.
        bins = np.floor(flat.astype(np.float64) * (BINS / (2 * self.edge))).astype(np.int64) + BINS // 2
        self.counts += np.bincount(bins, minlength=BINS)

    def merge(self, other: "Histogram") -> None:
        """Adds what another histogram saw."""
        if not other.seen:
            return
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self._grow_to(other.exponent)
        counts = other.counts
        for _ in range(self.exponent - other.exponent):
            counts = _halved(counts)
        self.counts = self.counts + counts

    def _grow_to(self, exponent: int) -> None:
        while self.exponent < exponent:
            self.counts = _halved(self.counts) if self.counts.any() else self.counts
            self.exponent += 1


def _exponent(largest: float) -> int:
    """Power of two that lies strictly above `largest`."""
    return max(SMALLEST_EXPONENT, math.frexp(largest)[1]) if largest > 0 else SMALLEST_EXPONENT


def _halved(counts: np.ndarray) -> np.ndarray:
    """The same counts in bins twice as wide."""
    inner = counts.reshape(-1, 2).sum(axis=1)
    outer = np.zeros(BINS // 4, np.int64)
    return np.concatenate([outer, inner, outer])
