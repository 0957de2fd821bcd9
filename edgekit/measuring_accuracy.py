"""Comparing outputs with the float model's."""

from collections.abc import Sequence

import numpy as np

from edgekit.deployment import ErrorHistogram
from edgekit.recipe import Arrays
from edgekit_runtime.accuracy import difference
from edgekit_runtime.measurement import finite

__all__ = ["compare", "error_histograms"]

BINS = 41


def compare(
    outputs: Sequence[Arrays], reference: Sequence[Arrays], name: str
) -> tuple[str | None, float | None, float | None, list[ErrorHistogram]]:
    """Why a model's outputs cannot be used, their largest difference from the reference, their SQNR in dB, and distributions.

    Args:
        outputs: The model's, one for each feed.
        reference: The float model's on the same feeds.
        name: The model's, for the reason.
    """
    broken = _not_finite(outputs, reference)
    if broken:
        return f"{name}: output {broken!r} holds NaN or infinity where the float model's is finite", None, None, []
    found = difference(outputs, reference)
    return None, finite(found.max_abs_diff), finite(found.sqnr_db), error_histograms(outputs, reference)


def error_histograms(outputs: Sequence[Arrays], reference: Sequence[Arrays]) -> list[ErrorHistogram]:
    """Distribution of each float output's errors, in bins that are symmetric about zero."""
    found = []
    for name, first in reference[0].items():
        pairs = [(one[name], other[name]) for one, other in zip(outputs, reference, strict=True)]
        if first.dtype.kind != "f" or any(one.shape != other.shape for one, other in pairs):
            continue
        with np.errstate(invalid="ignore"):
            errors = np.concatenate([(one.astype(np.float64) - other).ravel() for one, other in pairs])
        errors = errors[np.isfinite(errors)]
        widest = float(np.max(np.abs(errors), initial=0.0)) or 1e-12
        counts, edges = np.histogram(errors, BINS, (-widest, widest))
        found.append(ErrorHistogram(name, [float(edge) for edge in edges], [int(count) for count in counts]))
    return found


def _not_finite(outputs: Sequence[Arrays], reference: Sequence[Arrays]) -> str | None:
    """Name of the first float output that is not finite although all of the float model's is."""
    for got, expected in zip(outputs, reference, strict=True):
        for name, wanted in expected.items():
            if wanted.dtype.kind == "f" and np.isfinite(wanted).all() and not np.isfinite(got[name]).all():
                return name
    return None
