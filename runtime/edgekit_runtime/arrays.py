"""Named arrays in ``.npz`` files, never pickled, and whole or absent."""

import os
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from edgekit_runtime.errors import InputError, OutputError

__all__ = ["read_arrays", "write_arrays"]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file.

    Raises:
        InputError: The file is missing, damaged, or holds pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"read {path}: it holds one unnamed array; save with np.savez(path, input_name=array)")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile, EOFError, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"read {path}: not an .npz file of plain arrays: {error}") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` file beside `path` and swaps it in.

    Raises:
        InputError: An array holds Python objects.
        OutputError: The file could not be written.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise InputError(f"write {path.name}: {name!r} holds Python objects, which are never pickled here")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **dict(arrays))
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"write {path}: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
