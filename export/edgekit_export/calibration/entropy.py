"""The clip that loses the least information, after Migacz, *8-bit Inference with TensorRT* (GPU Technology Conference, 2017).

Magnitudes are put into 2048 bins of equal width. For each threshold the clipped histogram P (everything beyond it in its last
bin) is compared with what rounding to 8 bits leaves of it, Q: the Kullback–Leibler divergence of Q from P is to be
smallest. Against the talk four things are different:

- Data of both signs is folded onto its magnitude, and the levels are those that the wider side really gets: 128 for a
  symmetric range, up to 256 for a one-sided one (the talk has 128 for what is one-sided).
- Exact zeros, half of what a ReLU gives, are left out, since every range holds them without error; the first bin counts as much
  as the second, as in NVIDIA's own implementations.
- Where nothing but clipped values are in the last level, Q would be zero and the divergence infinite, so that one distant outlier
  would rule out every clip but none: Q has half a value there.
- All thresholds are judged at once, from running sums of P·log P and of the counts at the edges of the levels.
"""

import numpy as np

from edgekit_export.calibration.histogram import Histogram

__all__ = ["entropy_threshold"]

LINEAR_BINS = 2048
THRESHOLDS_PER_LEVEL_COUNT = 8
"""Thresholds lie a sixteenth of 128 bins, thus 0.4 % of the largest value, apart."""

HALF_A_VALUE = 0.5
"""What Q has in its last level where all values there are clipped ones."""


def entropy_threshold(histogram: Histogram) -> float:
    """The magnitude at which to clip."""
    largest = max(-histogram.minimum, histogram.maximum)
    reach = max(histogram.maximum, 0.0) - min(histogram.minimum, 0.0)
    if not 0 < largest < np.inf:
        return largest
    levels = int(np.clip(round(255 * largest / reach) + 1, 128, 256))
    counts = _linear(histogram, largest)
    stops = np.arange(levels, LINEAR_BINS + 1, THRESHOLDS_PER_LEVEL_COUNT)
    if stops[-1] != LINEAR_BINS:
        stops = np.append(stops, LINEAR_BINS)
    divergence = _divergences(counts, stops, levels)
    best = int(np.argmin(divergence)) if np.isfinite(divergence).any() else len(stops) - 1
    return float(largest * stops[best] / LINEAR_BINS)


def _linear(histogram: Histogram, largest: float) -> np.ndarray:
    """Magnitudes in bins of equal width up to `largest`, float64, (LINEAR_BINS,): each bin's count is spread evenly over it."""
    edges = histogram.edges
    below = np.concatenate([[0.0], np.cumsum(histogram.counts.sum(axis=0))])
    counts: np.ndarray = np.diff(np.interp(np.linspace(0.0, largest, LINEAR_BINS + 1), np.minimum(edges, largest), below))
    counts[0] = counts[1]
    return counts


def _divergences(counts: np.ndarray, stops: np.ndarray, levels: int) -> np.ndarray:
    """The divergence at each stop, float64, (stops,); infinite where Q is zero and P is not.

    Args:
        counts: Magnitudes, (bins,).
        stops: Numbers of bins that are kept.
        levels: Into how many levels the kept bins are rounded.
    """
    running = np.concatenate([[0.0], np.cumsum(counts)])
    occupied = np.concatenate([[0], np.cumsum(counts > 0)])
    information = np.concatenate([[0.0], np.cumsum(_x_log_x(counts))])
    kept, total = running[stops], running[-1]
    last = counts[stops - 1]
    beyond = total - kept
    # Edges of the levels for every stop: (stops, levels + 1) numbers of bins.
    edges = np.round(stops[:, None] * (np.arange(levels + 1) / levels)).astype(np.int64)
    inside = np.diff(running[edges], axis=1)
    bins = np.diff(occupied[edges], axis=1)
    clipped = inside.copy()
    clipped[:, -1] += beyond
    inside[:, -1] = np.where((inside[:, -1] == 0) & (beyond > 0), HALF_A_VALUE, inside[:, -1])
    # The last bin holds what was clipped, so it is occupied even where nothing else is in it.
    bins[:, -1] += (last == 0) & (beyond > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Sum of P·log P and of P·log Q, with Q even over the occupied bins of each level.
        own = information[stops] - _x_log_x(last) + _x_log_x(last + beyond)
        cross = np.where(clipped > 0, clipped * np.log(inside / bins), 0.0).sum(axis=1)
        found: np.ndarray = (own - cross) / total + np.log(kept / total)
    return np.where(np.isfinite(found), found, np.inf)


def _x_log_x(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = values * np.log(np.where(values > 0, values, 1.0))
    return found
