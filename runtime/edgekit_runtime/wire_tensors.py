"""Arrays on their way between a worker and its client: plain bytes with a dtype and a shape, or texts; never Python objects."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from edgekit_runtime.errors import InputError

__all__ = ["Feed", "Tensor", "pack_feed", "unpack_feed"]

PLAIN_KINDS = "biufc"


class Tensor(msgspec.Struct, frozen=True):
    """An array on its way.

    Attributes:
        dtype: numpy's name of its dtype; ``str`` for texts.
        shape: Its shape.
        data: Its bytes in C order, little endian; none for texts.
        texts: Its texts in C order, where it holds texts.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes = b""
    texts: list[str] = []


Feed = dict[str, Tensor]
"""Arrays by name, on their way."""


def pack_feed(arrays: Mapping[str, Any], what: str) -> Feed:
    """Arrays by name, for the way.

    Args:
        arrays: Numbers, booleans or texts of any shape.
        what: Whose arrays they are, for messages.

    Raises:
        InputError: One holds other Python objects, or is no array.
    """
    return {name: _pack(array, f"{what} {name!r}") for name, array in arrays.items()}


def unpack_feed(feed: Feed) -> dict[str, np.ndarray]:
    """Arrays by name, as they were before the way; they own their memory.

    Raises:
        InputError: Bytes, dtype and shape of one do not belong together.
    """
    return {name: _unpack(name, tensor) for name, tensor in feed.items()}


def _pack(array: Any, what: str) -> Tensor:
    if not isinstance(array, np.ndarray):
        raise InputError(f"send {what}: it is a {type(array).__name__}; only arrays travel to a worker and back")
    if array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(text, str) for text in array.flat)):
        return Tensor("str", array.shape, texts=[str(text) for text in array.flat])
    if array.dtype.kind not in PLAIN_KINDS:
        raise InputError(f"send {what}: dtype {array.dtype} holds Python objects or structures, which do not travel")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return Tensor(array.dtype.name, array.shape, little.tobytes())


def _unpack(name: str, tensor: Tensor) -> np.ndarray:
    if tensor.dtype == "str":
        texts = np.empty(len(tensor.texts), object)
        texts[:] = tensor.texts
        given = texts
    try:
        if tensor.dtype != "str":
            dtype = np.dtype(tensor.dtype)
            if dtype.kind not in PLAIN_KINDS:
                raise ValueError(f"dtype {tensor.dtype}")
            given = np.frombuffer(tensor.data, dtype.newbyteorder("<")).astype(dtype)
        return given.reshape(tensor.shape)
    except (ValueError, TypeError) as error:
        raise InputError(f"receive {name!r}: bytes, dtype {tensor.dtype} and shape {tensor.shape} do not fit: {error}") from error
