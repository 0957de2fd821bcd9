"""Where a model file says that its weights lie, read from the file itself.

An ``.onnx`` file may keep weights in other files, at a path of its own choosing. onnxruntime 1.22 follows such a path out of
the model's directory (1.31 does not), so that a bundle's own is checked here, before onnxruntime opens it.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgekit_runtime.errors import BundleError

__all__ = ["external_locations"]

# The fields of ONNX's protobuf messages that lead to a tensor: message, field number, message in that field (onnx.proto).
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
KEY, VALUE = 1, 2
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5


def external_locations(path: Path) -> set[str]:
    """The files, as the model at `path` names them, that hold its external data; none for most models.

    Raises:
        BundleError: The file mentions locations and is no sound protobuf.
    """
    if path.stat().st_size == 0:
        return set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"location") < 0:  # the key of every such entry: without it there is nothing to look for
            return set()
        try:
            return set(_locations(data))
        except (IndexError, ValueError) as error:
            raise BundleError(f"read {path.name}: it is not a sound ONNX file: {error}; deploy it again") from error


def _locations(data: mmap.mmap) -> Iterator[str]:
    waiting = [("model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        if message == "entry":
            yield from _location(data, start, end)
            continue
        inner = MESSAGES[message]
        waiting += [(inner[number], first, last) for number, first, last in _fields(data, start, end) if number in inner]


def _location(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    fields = [(number, data[first:last]) for number, first, last in _fields(data, start, end)]
    if (KEY, b"location") in fields:
        yield from (text.decode(errors="replace") for number, text in fields if number == VALUE)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first and last byte of every field that has a length, between `start` and `end`."""
    position = start
    while position < end:
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == VARINT:
            _, position = _varint(data, position)
        elif kind == EIGHT_BYTES:
            position += 8
        elif kind == FOUR_BYTES:
            position += 4
        elif kind == LENGTH:
            size, first = _varint(data, position)
            position = first + size
            if position <= end:
                yield tag >> 3, first, position
        else:
            raise ValueError(f"a field of unknown kind {kind} at byte {position}")
        if position > end:
            raise ValueError(f"a field that ends at byte {position}, beyond the {end} that it lies in")


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    """A base-128 number at `position`, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than ten bytes at byte {position}")
