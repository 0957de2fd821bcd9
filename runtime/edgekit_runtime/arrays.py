"""Named arrays in ``.npz`` files, never pickled, and whole or absent.

`numpy.savez` takes the names as keyword arguments, so that an array called ``file`` or ``allow_pickle`` would not be
saved: the members are written and read here one by one. The files are those that `numpy.load` opens.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from edgekit_runtime.errors import InputError, OutputError

__all__ = ["read_arrays", "write_arrays"]

SUFFIX = ".npy"
# What zipfile and numpy raise on damaged, encrypted, unknown or absurdly sized members.
DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file.

    Raises:
        InputError: The file is missing, damaged, or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {member.removesuffix(SUFFIX): _read_member(archive, member) for member in archive.namelist()}
    except DAMAGE as error:
        advice = "save with numpy.savez(path, input_name=array)"
        raise InputError(f"read {path}: not an .npz file of plain arrays: {error or type(error).__name__}; {advice}") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` file beside `path` and swaps it in.

    Raises:
        InputError: An array holds Python objects.
        OutputError: The file could not be written.
    """
    plain = {name: np.asanyarray(array) for name, array in arrays.items()}
    for name, array in plain.items():
        if array.dtype.hasobject:
            raise InputError(f"write {path.name}: {name!r} holds Python objects, which are never pickled here")
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in plain.items():
                with archive.open(name + SUFFIX, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _read_member(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    with archive.open(member) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array
