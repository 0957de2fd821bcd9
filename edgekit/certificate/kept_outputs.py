"""Outputs that a model gave elsewhere, kept as they come: a certificate that was cut short goes on where it was.

The file is a row of frames, each with its length and the SHA-256 of what follows. What a killed run left half written at its end is
cut off. Nothing in it is code, and nothing is unpickled.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edgekit.recipe import Arrays, Run
from edgekit_runtime.errors import OutputError
from edgekit_runtime.wire_tensors import Feed, pack_feed, unpack_feed

__all__ = ["KeptOutputs"]

LENGTH_BYTES = 8
CHECK_BYTES = 16


class Kept(msgspec.Struct, frozen=True):
    """One call: the SHA-256 of its feed, and what the model gave."""

    feed: bytes
    outputs: Feed


class KeptOutputs:
    """A model's calls, each made once.

    Args:
        path: The file; it is made, with its folder. Its name must tell the model and the place.
        start: Gives the model; it is not asked before an output is needed that is not kept.

    Attributes:
        made: Calls that were made by this object.
        found: Calls that were not, since an earlier run had made them.

    Raises:
        OutputError: The file cannot be read or written.
    """

    def __init__(self, path: Path, start: Callable[[], Run]) -> None:
        self._path = path
        self._start = start
        self._run: Run | None = None
        self.made = self.found = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._kept = self._read()
        except OSError as error:
            raise self._trouble(error) from error

    def __call__(self, feed: Arrays) -> Arrays:
        """The model's outputs, from the file or from the model."""
        key = _key(feed)
        if key in self._kept:
            self.found += 1
            return unpack_feed(self._kept[key])
        if self._run is None:
            self._run = self._start()
        outputs = self._run(feed)
        self._keep(Kept(key, pack_feed(outputs, "output")))
        self.made += 1
        return outputs

    def _keep(self, kept: Kept) -> None:
        document = msgspec.msgpack.encode(kept)
        frame = len(document).to_bytes(LENGTH_BYTES, "little") + hashlib.sha256(document).digest()[:CHECK_BYTES] + document
        try:
            with self._path.open("ab") as file:
                file.write(frame)
        except OSError as error:
            raise self._trouble(error) from error
        self._kept[kept.feed] = kept.outputs

    def _read(self) -> dict[bytes, Feed]:
        if not self._path.exists():
            return {}
        data = self._path.read_bytes()
        kept: dict[bytes, Feed] = {}
        position = 0
        while (found := _frame(data, position)) is not None:
            one, position = found
            kept[one.feed] = one.outputs
        if position < len(data):
            with self._path.open("r+b") as file:
                file.truncate(position)
        return kept

    def _trouble(self, error: OSError) -> OutputError:
        return OutputError(
            f"keep outputs in {self._path}: {error.strerror or error}; make room, or set EDGEKIT_CACHE to a folder that is writable"
        )


def _frame(data: bytes, position: int) -> tuple[Kept, int] | None:
    """The frame at a position and where the next one begins; ``None`` where there is no whole one."""
    begin = position + LENGTH_BYTES + CHECK_BYTES
    if begin > len(data):
        return None
    end = begin + int.from_bytes(data[position : position + LENGTH_BYTES], "little")
    document = data[begin:end]
    if end > len(data) or hashlib.sha256(document).digest()[:CHECK_BYTES] != data[position + LENGTH_BYTES : begin]:
        return None
    try:
        return msgspec.msgpack.decode(document, type=Kept), end
    except msgspec.MsgspecError:
        return None


def _key(feed: Arrays) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(feed):
        array = np.ascontiguousarray(feed[name])
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.kind in "OUST" else array.tobytes())
    return digest.digest()
