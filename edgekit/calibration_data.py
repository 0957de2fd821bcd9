"""Calibration data: what a recipe gives, or files for models that come without a recipe."""

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path

import numpy as np

from edgekit.recipe import Arrays, Recipe
from edgekit_runtime.arrays import read_arrays
from edgekit_runtime.errors import CalibrationError, EdgekitError

__all__ = ["feeds_from", "feeds_of"]


class RecipeFeeds:
    """A recipe's calibration feeds; each iteration calls its function anew, so they can be gone through more than once.

    Args:
        recipe: One that has a calibration.
        first: What its function gave the first time, to be used up first.
    """

    def __init__(self, recipe: Recipe, first: Iterable[Arrays]) -> None:
        self._recipe = recipe
        self._first: Iterable[Arrays] | None = first

    def __iter__(self) -> Iterator[Arrays]:
        """The feeds from the first one on."""
        data, self._first = self._first, None
        return iter(_called(self._recipe) if data is None else data)


class FileFeeds:
    """Feeds from a folder of ``.npz`` files, one feed each, or from one ``.npz`` whose first axis counts examples.

    They can be gone through more than once.

    Args:
        path: The folder or file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Arrays]:
        """The feeds from the first one on.

        Raises:
            CalibrationError: There is nothing there, or the arrays of one file have different first axes.
            InputError: A file is not an ``.npz`` of plain arrays.
        """
        if self._path.is_dir():
            return self._from_folder()
        return self._from_file()

    def _from_folder(self) -> Iterator[Arrays]:
        files = sorted(self._path.glob("*.npz"))
        if not files:
            raise CalibrationError(
                f"calibration {self._path}: the folder has no .npz file; write each feed with np.savez(path, name=array)"
            )
        for file in files:
            yield read_arrays(file)

    def _from_file(self) -> Iterator[Arrays]:
        arrays = read_arrays(self._path)
        counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(counts.values())) != 1 or not all(counts.values()):
            raise CalibrationError(f"calibration {self._path}: first axes are {counts}; every array needs one entry an example")
        for index in range(next(iter(counts.values()))):
            yield {name: np.ascontiguousarray(array[index : index + 1]) for name, array in arrays.items()}


def feeds_of(recipe: Recipe) -> tuple[Iterable[Arrays], int | None]:
    """The recipe's calibration feeds, which can be gone through more than once, and how many there are where it says so.

    Raises:
        CalibrationError: The recipe has none, or its function raises or gives something else.
    """
    data = _called(recipe)
    return RecipeFeeds(recipe, data), len(data) if isinstance(data, Sized) else None


def feeds_from(path: Path) -> Iterable[Arrays]:
    """Feeds from a folder of ``.npz`` files, one feed each, or from one ``.npz`` whose first axis counts examples.

    What is wrong with them is told, as `FileFeeds` says, once they are gone through.
    """
    return FileFeeds(path)


def _called(recipe: Recipe) -> Iterable[Arrays]:
    """What the recipe's function gives."""
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
    return data
