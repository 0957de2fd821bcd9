"""How far one model's outputs are from another's."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

__all__ = ["Difference", "difference"]


class Difference(msgspec.Struct, frozen=True):
    """Outputs against reference outputs.

    Attributes:
        max_abs_diff: Largest absolute difference; infinite where one is not a number and the other is.
        rms_diff: Root of the mean squared difference.
        peak: Largest absolute reference value.
        sqnr_db: 10 log₁₀ of reference power over error power; infinite where they are equal.
    """

    max_abs_diff: float
    rms_diff: float
    peak: float
    sqnr_db: float


def difference(outputs: Sequence[Mapping[str, np.ndarray]], reference: Sequence[Mapping[str, np.ndarray]]) -> Difference:
    """Compares outputs with reference outputs, all runs and all outputs together.

    Values that are equal count as equal even where they are infinite or NaN in both.
    """
    signal = noise = 0.0
    count = 0
    largest = peak = 0.0
    for got, expected in zip(outputs, reference, strict=True):
        for name, wanted in expected.items():
            left, right = np.asarray(got[name]), np.asarray(wanted)
            if left.shape != right.shape:
                return Difference(np.inf, np.inf, peak, -np.inf)
            left, right = left.astype(np.float64), right.astype(np.float64)
            same = (left == right) | (np.isnan(left) & np.isnan(right))
            error = np.where(same, 0.0, left - np.where(same, 0.0, right))
            error = np.where(same, 0.0, error)
            error = np.where(np.isnan(error), np.inf, error)
            finite = np.where(np.isfinite(right), right, 0.0)
            largest = max(largest, float(np.max(np.abs(error), initial=0.0)))
            peak = max(peak, float(np.max(np.abs(finite), initial=0.0)))
            signal += float(np.sum(finite**2))
            noise += float(np.sum(error**2))
            count += right.size
    if noise == 0.0:
        decibels = np.inf
    elif signal == 0.0 or not np.isfinite(noise):
        decibels = -np.inf
    else:
        decibels = 10.0 * np.log10(signal / noise)
    return Difference(largest, float(np.sqrt(noise / max(count, 1))), peak, float(decibels))
