"""The preprocessing contract: inputs look as they did when the model was calibrated."""

from collections.abc import Mapping

import numpy as np

from edgekit_runtime.manifest import Manifest

__all__ = ["outside_calibration"]


def outside_calibration(manifest: Manifest | None, feed: Mapping[str, np.ndarray]) -> list[str]:
    """Sentences about inputs that are NaN, or far outside of what calibration saw: another preprocessing, most likely.

    Args:
        manifest: The bundle's manifest; nothing is known of a plain model's inputs.
        feed: Arrays by input name.
    """
    warnings = []
    for name, seen in manifest.preprocessing.items() if manifest else ():
        array = feed.get(name)
        if array is None or array.size == 0 or array.dtype.kind not in "fiub":
            continue
        if array.dtype.kind == "f" and np.isnan(array).any():
            warnings.append(f"input {name!r} holds NaN; what comes out of it means nothing")
            continue
        slack = 0.5 * max(seen.maximum - seen.minimum, 1e-6)
        low, high = float(array.min()), float(array.max())
        if low < seen.minimum - slack or high > seen.maximum + slack:
            warnings.append(
                f"input {name!r} spans [{low:.4g}, {high:.4g}], calibration saw [{seen.minimum:.4g}, {seen.maximum:.4g}]; "
                "is it preprocessed as it was then?"
            )
    return warnings
