"""The running totals of a calibration."""

from collections.abc import Sequence

import numpy as np

from edgekit_export.calibration.checked_feeds import Feed
from edgekit_export.calibration.histogram import Histogram
from edgekit_export.calibration.probes import Reading
from edgekit_export.calibration.statistics import wider
from edgekit_runtime.manifest import InputRange

__all__ = ["Tally"]

PENDING_KEYS = 1 << 23
"""So many keys (16 MiB) wait before they are counted: counting costs something for each tensor, however few values it has."""


class Tally:
    """Histograms of watched tensors, and ranges of inputs, over the examples so far.

    Attributes:
        names: The watched tensors.
        inputs: Range of each input's values, whatever its dtype.
        examples: How many there were.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.inputs: dict[str, InputRange] = {}
        self.examples = 0
        self._histograms = {name: Histogram() for name in names}
        self._pending: list[Reading] = []
        self._keys = 0

    @classmethod
    def restored(cls, histograms: dict[str, Histogram], inputs: dict[str, InputRange], examples: int) -> "Tally":
        """A tally to go on with."""
        tally = cls(tuple(histograms))
        tally.inputs, tally.examples, tally._histograms = dict(inputs), examples, histograms
        return tally

    def add(self, feed: Feed, reading: Reading) -> None:
        """Adds one example."""
        for name, array in feed.items():
            if array.size and array.dtype.kind in "fiub":
                seen = InputRange(float(array.min()), float(array.max()))
                self.inputs[name] = wider(self.inputs.get(name, seen), seen)
        self._pending.append(reading)
        self._keys += sum(map(len, reading.keys))
        self.examples += 1
        if self._keys >= PENDING_KEYS:
            self._count()

    def histograms(self) -> dict[str, Histogram]:
        """One for each watched tensor, with all examples in it."""
        self._count()
        return self._histograms

    def _count(self) -> None:
        for place, histogram in enumerate(self._histograms.values()):
            extremes = [(float(reading.lows[place]), float(reading.highs[place])) for reading in self._pending]
            histogram.see([(low, high) for low, high in extremes if low <= high])
            keys = [reading.keys[place] for reading in self._pending]
            if any(map(len, keys)):
                histogram.count(np.concatenate(keys))
        self._pending, self._keys = [], 0
