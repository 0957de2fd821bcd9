"""What calibration saw, and how what shards saw becomes one."""

from copy import deepcopy
from dataclasses import dataclass

from edgekit_export.calibration.histogram import Histogram
from edgekit_runtime.errors import CalibrationError
from edgekit_runtime.manifest import InputRange

__all__ = ["Statistics"]


@dataclass(frozen=True)
class Statistics:
    """What calibration saw.

    Attributes:
        histograms: One for each float tensor of the graph, inputs included; tensors that share a range share the object.
        inputs: Range of each input's values, whatever its dtype.
        examples: How many feeds there were.
    """

    histograms: dict[str, Histogram]
    inputs: dict[str, InputRange]
    examples: int

    def merge(self, *others: "Statistics") -> "Statistics":
        """What one pass over all shards would have seen, exactly, in whatever order they are given.

        Raises:
            CalibrationError: The shards are of different graphs.
        """
        for other in others:
            if other.histograms.keys() != self.histograms.keys():
                unknown = sorted(other.histograms.keys() ^ self.histograms.keys())[:5]
                raise CalibrationError(f"merge statistics: the shards are of different graphs; only one side has {unknown}")
        merged: dict[tuple[int, ...], Histogram] = {}
        histograms = {}
        for name, own in self.histograms.items():
            parts = (own, *(other.histograms[name] for other in others))
            key = tuple(id(part) for part in parts)
            if key not in merged:
                merged[key] = deepcopy(own)
                for part in parts[1:]:
                    merged[key].merge(part)
            histograms[name] = merged[key]
        inputs = dict(self.inputs)
        for other in others:
            for name, seen in other.inputs.items():
                inputs[name] = wider(inputs.get(name, seen), seen)
        return Statistics(histograms, inputs, self.examples + sum(other.examples for other in others))


def wider(one: InputRange, other: InputRange) -> InputRange:
    """The range that holds both."""
    return InputRange(min(one.minimum, other.minimum), max(one.maximum, other.maximum))
