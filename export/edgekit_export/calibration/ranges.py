"""From histograms to ranges, by several methods.

- ``minmax``: all that was seen. Nothing saturates; one outlier makes every step coarse.
- ``average``: the mean of the examples' smallest values to the mean of their largest, so that an outlier counts for one
  example. The moving average of Jacob et al., *Quantization and Training of Neural Networks* (arXiv:1712.05877, section 3.1),
  weighs late examples more, so it depends on their order and shards cannot be merged. A plain mean has neither fault,
  and it is kept without rounding, so that even the last bit does not depend on the order.
- ``percentile``: the middle 99.99 %, as in Wu et al., *Integer Quantization for Deep Learning Inference* (arXiv:2004.09602).
- ``entropy``: the symmetric clip that loses the least information; see `entropy.py`.
- ``mse``: the clip that makes the expected squared error of 8-bit rounding and clipping least, as in Banner et al.,
  *Post-training 4-bit quantization of convolution networks* (arXiv:1810.05723), read off the histogram.

None is best everywhere: a clip that helps one network ruins another, so candidates are chosen by the task's metric.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from edgekit_export.calibration.entropy import entropy_threshold
from edgekit_export.calibration.histogram import BINS, Histogram

__all__ = ["METHODS", "Method", "Ranges", "ranges_from"]

Method = Literal["minmax", "average", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
PERCENTILE = 99.99
LEVELS = 256
# Clips to try, relative to all that was seen on that side: 2 % apart, down to a thousandth.
SHARES = np.append(np.exp2(np.arange(-350, 0) / 35), 1.0)

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest value of each tensor, by name, and the method that found them."""

    method: Method
    bounds: Mapping[str, Bounds]

    def exploded(self, limit: float) -> list[str]:
        """Tensors whose range reaches beyond `limit`: attention masks of −3.4e38, which no integer can hold."""
        return [name for name, (low, high) in self.bounds.items() if max(-low, high) > limit]


def ranges_from(histograms: Mapping[str, Histogram], method: Method) -> Ranges:
    """Ranges of all tensors that were seen."""
    found: dict[int, Bounds] = {}  # tensors that share a range share the histogram
    bounds = {}
    for name, histogram in histograms.items():
        if histogram.seen:
            if id(histogram) not in found:
                found[id(histogram)] = FINDERS[method](histogram)
            bounds[name] = found[id(histogram)]
    return Ranges(method, bounds)


def _minmax(histogram: Histogram) -> Bounds:
    return histogram.minimum, histogram.maximum


def _average(histogram: Histogram) -> Bounds:
    return histogram.lows.value, histogram.highs.value


def _percentile(histogram: Histogram) -> Bounds:
    """The outer edges of the bins in which the two percentiles lie; what counts as zero is one bin."""
    edges = histogram.edges
    ladder = np.concatenate([-edges[::-1], edges])
    cumulated = np.cumsum(np.concatenate([histogram.counts[1, ::-1], [histogram.zeros], histogram.counts[0]]))
    outside = (100.0 - PERCENTILE) / 200.0 * cumulated[-1]
    low = ladder[int(np.searchsorted(cumulated, outside, side="right"))]
    high = ladder[int(np.searchsorted(cumulated, cumulated[-1] - outside, side="left")) + 1]
    return _inside(float(low), float(high), histogram)


def _entropy(histogram: Histogram) -> Bounds:
    threshold = entropy_threshold(histogram)
    return _inside(-threshold, threshold, histogram)


def _mse(histogram: Histogram) -> Bounds:
    """Tries all pairs of a clip below and a clip above: each side's clipping error is known by itself, rounding by the reach.

    Zeros are counted as exact: they make half of what a ReLU gives.
    """
    below, above = max(-histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    lows, low_errors = _clipping_errors(histogram.edges, histogram.counts[1], below)
    highs, high_errors = _clipping_errors(histogram.edges, histogram.counts[0], above)
    steps = (lows[:, None] + highs[None, :]) / (LEVELS - 1)
    # Rounding costs step²/12 for each value; clipping costs the squared distance of each value outside.
    errors = low_errors[:, None] + high_errors[None, :] + histogram.counts.sum() * steps**2 / 12
    best = np.unravel_index(int(np.argmin(errors)), errors.shape)
    return _inside(-float(lows[best[0]]), float(highs[best[1]]), histogram)


def _clipping_errors(edges: np.ndarray, counts: np.ndarray, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Clips of one side's magnitudes, and the summed squared error of each.

    Args:
        edges: Of the bins, (BINS + 1,).
        counts: Of this side, (BINS,).
        largest: The largest magnitude; 0 where the side is empty, and then the only clip is 0.
    """
    if largest == 0:
        return np.zeros(1), np.zeros(1)
    # In units of the largest, so that squares stay finite.
    centres = (edges[:-1] + np.minimum(edges[1:], max(largest, edges[0]))) / 2 / largest
    moments = [np.append(np.cumsum((counts * centres**power)[::-1])[::-1], 0.0) for power in range(3)]
    first = np.searchsorted(centres, SHARES)  # the first bin that lies beyond
    amount, sums, squares = (moment[np.minimum(first, BINS)] for moment in moments)
    errors = squares - 2 * SHARES * sums + SHARES**2 * amount
    return SHARES * largest, np.maximum(errors, 0.0) * largest**2


def _inside(low: float, high: float, histogram: Histogram) -> Bounds:
    """The range without what was never seen; data on one side of zero stays there."""
    low, high = max(low, histogram.minimum), min(high, histogram.maximum)
    return min(low, histogram.maximum), max(high, histogram.minimum)


FINDERS: dict[Method, Callable[[Histogram], Bounds]] = {
    "minmax": _minmax,
    "average": _average,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
