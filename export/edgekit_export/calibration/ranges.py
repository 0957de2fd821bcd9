"""From histograms to ranges, by several methods.

- ``minmax``: all that was seen. Nothing saturates; one outlier makes every step coarse.
- ``percentile``: the middle 99.99 %, as in Wu et al., *Integer Quantization for Deep Learning Inference* (arXiv:2004.09602).
- ``mse``: the symmetric clip that makes the expected squared error of 8-bit rounding and clipping least, as in Banner et
  al., *Post-training 4-bit quantization of convolution networks* (arXiv:1810.05723), read off the histogram.

None is best everywhere: a clip that helps one network ruins another, so candidates are chosen by the task's metric.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from edgekit_export.calibration.histogram import BINS, Histogram

__all__ = ["METHODS", "Method", "Ranges", "ranges_from"]

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
PERCENTILE = 99.99
LEVELS = 256


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest value of each tensor, by name, and the method that found them."""

    method: Method
    bounds: Mapping[str, tuple[float, float]]

    def exploded(self, limit: float) -> list[str]:
        """Tensors whose range reaches beyond `limit`: attention masks of −3.4e38, which no integer can hold."""
        return [name for name, (low, high) in self.bounds.items() if max(-low, high) > limit]


def ranges_from(histograms: Mapping[str, Histogram], method: Method) -> Ranges:
    """Ranges of all tensors that were seen."""
    find = {"minmax": _minmax, "percentile": _percentile, "mse": _mse}[method]
    return Ranges(method, {name: find(histogram) for name, histogram in histograms.items() if histogram.seen})


def _minmax(histogram: Histogram) -> tuple[float, float]:
    return histogram.minimum, histogram.maximum


def _percentile(histogram: Histogram) -> tuple[float, float]:
    cumulated = np.cumsum(histogram.counts)
    outside = (100.0 - PERCENTILE) / 200.0 * cumulated[-1]
    edges = np.linspace(-histogram.edge, histogram.edge, BINS + 1)
    low = edges[int(np.searchsorted(cumulated, outside, side="right"))]
    high = edges[int(np.searchsorted(cumulated, cumulated[-1] - outside, side="left")) + 1]
    return max(float(low), histogram.minimum), min(float(high), histogram.maximum)


def _mse(histogram: Histogram) -> tuple[float, float]:
    width = 2 * histogram.edge / BINS
    centres = -histogram.edge + width * (np.arange(BINS) + 0.5)
    counts = histogram.counts.astype(np.float64)
    largest = max(-histogram.minimum, histogram.maximum)
    best = (np.inf, histogram.minimum, histogram.maximum)
    for share in np.linspace(0.3, 1.0, 71):
        low, high = max(histogram.minimum, -share * largest), min(histogram.maximum, share * largest)
        if low > high:  # all values lie outside
            continue
        step = (max(high, 0.0) - min(low, 0.0)) / (LEVELS - 1)
        clipped = np.clip(centres, low, high)
        # Rounding costs step²/12 for each value inside; clipping costs the squared distance of each value outside.
        error = float(np.sum(counts * ((centres - clipped) ** 2 + (step**2) / 12)))
        if error < best[0]:
            best = (error, low, high)
    return float(best[1]), float(best[2])
