"""How far one model's outputs are from another's."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from edgekit_runtime.errors import InputError

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

    Values that are equal count as equal even where they are infinite or NaN in both. Values that cannot be subtracted,
    such as texts, and arrays of unlike shapes are infinitely far apart unless they are equal.

    Raises:
        InputError: The runs are not as many, or an output of the reference is missing.
    """
    if len(outputs) != len(reference):
        raise InputError(f"compare outputs: {len(outputs)} runs against {len(reference)} of the reference")
    signal = noise = largest = peak = 0.0
    count = 0
    for got, expected in zip(outputs, reference, strict=True):
        missing = expected.keys() - got.keys()
        if missing:
            raise InputError(f"compare outputs: {sorted(missing)} of the reference are not among {sorted(got)}")
        for name, wanted in expected.items():
            right = np.asarray(wanted)
            error = _absolute_error(np.asarray(got[name]), right)
            power = right.astype(np.float64) if right.dtype.kind in "biuf" else np.zeros(right.shape)
            power[~np.isfinite(power)] = 0.0
            largest = max(largest, float(np.max(error, initial=0.0)))
            peak = max(peak, float(np.max(np.abs(power), initial=0.0)))
            with np.errstate(over="ignore"):  # float64 values beyond 1e154: infinite power is the answer
                signal += float(np.sum(np.square(power)))
                noise += float(np.sum(np.square(error)))
            count += right.size
    if noise == 0.0:
        decibels = np.inf
    elif signal == 0.0 or not np.isfinite(noise):
        decibels = -np.inf
    else:
        decibels = 10.0 * np.log10(signal / noise)
    return Difference(largest, float(np.sqrt(noise / max(count, 1))), peak, float(decibels))


def _absolute_error(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Absolute differences as float64, of the shape of `right`."""
    if left.shape != right.shape:
        return np.full(right.shape or (1,), np.inf) if right.size else np.full(1, np.inf)
    # Compared before the conversion: two large int64 may differ and still round to the same float64.
    same = np.asarray(left == right)
    if left.dtype.kind not in "biuf" or right.dtype.kind not in "biuf":
        return np.where(same, 0.0, np.inf)
    left, right = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.asarray(np.abs(left - right))
    error[np.isnan(error)] = np.inf
    error[(error == 0.0) & ~same] = 1.0
    error[same | (np.isnan(left) & np.isnan(right))] = 0.0
    return error
