"""Calibration data in files, for models that come without a recipe."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgekit.recipe import Arrays
from edgekit_runtime.arrays import read_arrays
from edgekit_runtime.errors import CalibrationError

__all__ = ["feeds_from"]


def feeds_from(path: Path) -> Iterator[Arrays]:
    """Feeds from a folder of ``.npz`` files, one feed each, or from one ``.npz`` whose first axis counts examples.

    Raises:
        CalibrationError: There is nothing there, or the arrays of one file have different first axes.
        InputError: A file is not an ``.npz`` of plain arrays.
    """
    if path.is_dir():
        files = sorted(path.glob("*.npz"))
        if not files:
            raise CalibrationError(
                f"calibration {path}: the folder has no .npz file; write each feed with np.savez(path, name=array)"
            )
        for file in files:
            yield read_arrays(file)
        return
    arrays = read_arrays(path)
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or not all(counts.values()):
        raise CalibrationError(f"calibration {path}: first axes are {counts}; every array needs one entry an example")
    for index in range(next(iter(counts.values()))):
        yield {name: np.ascontiguousarray(array[index : index + 1]) for name, array in arrays.items()}
