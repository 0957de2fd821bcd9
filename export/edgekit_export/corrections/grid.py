"""The grid on which onnxruntime's quantizer puts a weight.

It takes the largest absolute value of each output channel (or of the whole weight) for the end of the grid, so whoever
chooses the integers before it must leave that one value as it is.
"""

from dataclasses import dataclass

import numpy as np

from edgekit_export.schemes import Flavour, Granularity

__all__ = ["Grid", "grid_of"]

# As in onnxruntime.quantization.quant_utils: symmetric, reduced, and unsigned with the zero point in the middle.
SIGNED, REDUCED, UNSIGNED = (-127, 127), (-64, 64), (0, 255)
REDUCED_UNSIGNED = (0, 127)


@dataclass(frozen=True)
class Grid:
    """Integers of a weight.

    Attributes:
        levels: Steps between the two ends that the largest absolute value spans, 254 for symmetric int8.
        lowest: Least integer, less the zero point.
        highest: Greatest integer, less the zero point.
        granularity: One scale for each output channel, or for the whole weight.
    """

    levels: int
    lowest: int
    highest: int
    granularity: Granularity

    def scales(self, rows: np.ndarray) -> np.ndarray:
        """Size of a step: (groups, outputs, 1) for weights of (groups, outputs, inputs), float64 with float32's precision."""
        axes = (2,) if self.granularity == "channel" else (0, 1, 2)
        largest = np.abs(rows.astype(np.float32)).max(axis=axes, keepdims=True).astype(np.float64)
        scales = (2.0 * largest / self.levels).astype(np.float32).astype(np.float64)
        scales[scales < np.finfo(np.float32).tiny] = 1.0
        return np.broadcast_to(scales, (*rows.shape[:2], 1))

    def rounded(self, rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """What the quantizer makes of weights: the nearest values on the grid, of the shape of `rows`."""
        return np.asarray(np.clip(np.rint(rows / scales), self.lowest, self.highest) * scales)

    def within(self, rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """The nearest values on the grid that are no larger than the one that sets the scale, of the shape of `rows`."""
        half = self.levels // 2
        return np.asarray(np.clip(np.rint(rows / scales), -half, half) * scales)

    def ends(self, rows: np.ndarray) -> np.ndarray:
        """Where the values that set the scale are: one in each channel, or one in all; boolean, of the shape of `rows`."""
        sizes = np.abs(rows.astype(np.float32))
        if self.granularity == "tensor":
            marks = np.zeros(rows.size, bool)
            marks[int(sizes.argmax())] = True
            return marks.reshape(rows.shape)
        marks = np.zeros(rows.shape, bool)
        np.put_along_axis(marks, sizes.argmax(axis=2, keepdims=True), True, axis=2)
        return marks


def grid_of(flavour: Flavour, granularity: Granularity, *, depthwise: bool) -> Grid:
    """The grid of a layer's weight in a scheme; depthwise weights stay signed in unsigned flavours (`quantize_static`)."""
    if flavour.weight == "s8" or depthwise:
        low, high = REDUCED if flavour.reduced else SIGNED
        return Grid(high - low, -128, 127, granularity)
    low, high = REDUCED_UNSIGNED if flavour.reduced else UNSIGNED
    zero = round((low + high) / 2)
    return Grid(high - low, -zero, 255 - zero, granularity)
