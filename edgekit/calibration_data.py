"""Calibration data: what a recipe gives, or files for models that come without a recipe."""

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path

import numpy as np

from edgekit.recipe import Arrays, Recipe
from edgekit_runtime.arrays import read_arrays
from edgekit_runtime.errors import CalibrationError, EdgekitError

__all__ = ["feeds_from", "feeds_of"]


def feeds_of(recipe: Recipe) -> tuple[Iterable[Arrays], int | None]:
    """The recipe's calibration feeds, and how many there are where it says so.

    Raises:
        CalibrationError: The recipe has none, or its function raises or gives something else.
    """
    if recipe.calibration is None:
        raise CalibrationError(f"recipe {recipe.name}: it has no calibration; add a function that yields feeds")
    try:
        data = recipe.calibration()
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:
        raise CalibrationError(f"recipe {recipe.name}: calibration() raised {type(error).__name__}: {error}") from error
    if not isinstance(data, Iterable) or isinstance(data, (dict, str)):
        raise CalibrationError(
            f"recipe {recipe.name}: calibration() gave {type(data).__name__}, expected an iterable of feeds, each a dict of input "
            "name to array"
        )
    return data, len(data) if isinstance(data, Sized) else None


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
