"""A calibration's state in a file, so that work that was killed goes on and finished work is not repeated.

The file is an ``.npz`` without pickles, swapped in whole. It names what it belongs to: the graph, the settings, and the feeds so
far, by their contents and never by a file's name.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from edgekit_export.calibration import sampling
from edgekit_export.calibration.checked_feeds import Feed
from edgekit_export.calibration.exact_mean import ExactMean
from edgekit_export.calibration.histogram import BINS, OCTAVES, Histogram
from edgekit_export.calibration.tally import Tally
from edgekit_export.graph import Graph
from edgekit_runtime.arrays import read_arrays, write_arrays
from edgekit_runtime.errors import CalibrationError
from edgekit_runtime.manifest import InputRange

__all__ = ["SavedState", "fingerprint", "next_digest"]

FORMAT = 1
"""Counted up when statistics come to mean something else."""


@dataclass(frozen=True)
class SavedState:
    """A calibration under way, or finished: the file does not tell, the data does.

    Attributes:
        key: `fingerprint` of the graph and the settings.
        digest: `next_digest` of the feeds so far.
        tally: What they showed.
    """

    key: str
    digest: str
    tally: Tally

    def write(self, path: Path) -> None:
        """Writes the state beside `path` and swaps it in.

        Raises:
            OutputError: It could not be written.
        """
        found = list(self.tally.histograms().values())
        means = [mean for histogram in found for mean in (histogram.lows, histogram.highs)]
        inputs = self.tally.inputs
        arrays = {
            "belongs_to": np.array([self.key, self.digest]),
            "examples": np.array(self.tally.examples),
            "names": np.array(self.tally.names, np.str_),
            "bounds": np.array([(histogram.minimum, histogram.maximum) for histogram in found], np.float64),
            "tops": np.array([histogram.top for histogram in found], np.int64),
            "counts": np.array([histogram.counts for histogram in found], np.int64),
            "zeros": np.array([histogram.zeros for histogram in found], np.int64),
            "totals": np.array([f"{mean.total:x}" for mean in means], np.str_),
            "parts": np.array([mean.count for mean in means], np.int64),
            "inputs": np.array(list(inputs), np.str_),
            "input_bounds": np.array([(seen.minimum, seen.maximum) for seen in inputs.values()], np.float64),
        }
        write_arrays(path, {**arrays, "checksum": np.array(_checksum(arrays))})

    @classmethod
    def read(cls, path: Path) -> "SavedState":
        """Reads a state.

        Raises:
            InputError: The file is no ``.npz`` of plain arrays.
            CalibrationError: It is one, but not as `write` leaves it.
        """
        arrays = read_arrays(path)
        checksum = arrays.pop("checksum", np.array(""))
        if str(checksum) != _checksum(arrays):
            raise CalibrationError(f"read {path.name}: it is damaged, or was not written by this version of edgekit")
        key, digest = arrays["belongs_to"].tolist()
        totals = [
            ExactMean(int(total, 16), count)
            for total, count in zip(arrays["totals"].tolist(), arrays["parts"].tolist(), strict=True)
        ]
        found = {
            name: Histogram(low, high, top, counts, zeros, *means)
            for name, (low, high), top, counts, zeros, means in zip(
                arrays["names"].tolist(),
                arrays["bounds"].tolist(),
                arrays["tops"].tolist(),
                arrays["counts"],
                arrays["zeros"].tolist(),
                zip(totals[::2], totals[1::2], strict=True),
                strict=True,
            )
        }
        bounds = zip(arrays["inputs"].tolist(), arrays["input_bounds"].tolist(), strict=True)
        inputs = {name: InputRange(low, high) for name, (low, high) in bounds}
        return cls(key, digest, Tally.restored(found, inputs, int(arrays["examples"])))


def fingerprint(graph: Graph, names: list[str]) -> str:
    """SHA-256 of what calibration's results depend on, the data aside: the graph, what is watched and how, and onnxruntime."""
    sha = hashlib.sha256()
    settings = (FORMAT, BINS, OCTAVES, sampling.SAMPLE, sampling.SMALLEST_STRIDE, ort.__version__, names)
    sha.update(repr(settings).encode())
    main = graph.model.graph
    sha.update(repr((sorted(graph.model.opset_imports.items()), len(main.initializers))).encode())
    for value in (*main.inputs, *main.outputs):
        sha.update(ir.to_proto(value).SerializeToString(deterministic=True))
    for node in main:
        sha.update(ir.to_proto(node).SerializeToString(deterministic=True))
    for function in graph.model.functions.values():
        sha.update(ir.to_proto(function).SerializeToString(deterministic=True))
    for name, value in main.initializers.items():
        weight = value.const_value
        if weight is not None:
            sha.update(repr((name, str(weight.dtype), list(weight.shape))).encode())
            sha.update(weight.tobytes())
    return sha.hexdigest()


def next_digest(digest: str, feed: Feed) -> str:
    """SHA-256 of the feeds so far, from that of the feeds before and one more feed."""
    sha = hashlib.sha256(digest.encode())
    for name in sorted(feed):
        array = np.ascontiguousarray(feed[name])
        sha.update(repr((name, array.dtype.str, array.shape)).encode())
        if array.dtype.hasobject:  # strings
            sha.update(repr(array.tolist()).encode())
        else:
            sha.update(array.view(np.uint8).data if array.ndim and array.size else array.tobytes())
    return sha.hexdigest()


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    return next_digest(f"edgekit calibration {FORMAT}", arrays)
