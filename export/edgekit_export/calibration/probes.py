"""Probes: nodes added to a graph that reduce its tensors where they are computed.

Reading every tensor out of onnxruntime and reducing it in numpy costs more than the inference. So the graph does it itself, while
the values are in the cache: smallest and largest value, and the sample that will be counted. All probes' results leave
in four arrays. What remains of full optimization (fused convolutions, onnxruntime's own memory layout) stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgekit_export.calibration.checked_feeds import Feed
from edgekit_export.calibration.histogram import keys_of
from edgekit_export.calibration.observe import Observer
from edgekit_export.calibration.sampling import LARGEST_MULTIPLE, SAMPLE, sample, stride_table
from edgekit_export.calibration.stand_ins import CLAMPS
from edgekit_export.graph import Graph
from edgekit_runtime.errors import CalibrationError
from edgekit_runtime.session import SessionConfig, open_session

__all__ = ["Probes", "Reading"]

PREFIX = "edgekit_probe_"
REPORT = PREFIX + "report"
HEAD = 4
"""Before a probe's sample come how many values are in it, and minimum, maximum and check."""


@dataclass(frozen=True)
class Reading:
    """What one example shows of the watched tensors.

    Attributes:
        lows: Smallest finite value of each tensor, float64, (tensors,); infinity where it has none.
        highs: Largest finite value of each, float64, (tensors,); minus infinity where it has none.
        keys: Bins of the counted values of each, uint16.
    """

    lows: np.ndarray
    highs: np.ndarray
    keys: list[np.ndarray]


class Probes:
    """A graph opened with probes in it.

    Tensors that are not float32, graph inputs, and tensors that hold infinity in some example are read whole.

    Args:
        graph: A prepared float graph.
        names: The watched tensors, inputs among them.
        folder: Where model files are written, to be opened from there.
        threads: As in `SessionConfig`.
    """

    def __init__(self, graph: Graph, names: Sequence[str], folder: Path, threads: int | None = None) -> None:
        self._graph, self._names, self._folder, self._threads = graph, tuple(names), folder, threads
        given = {spec.name for spec in graph.inputs}
        kinds = {value.name: value.dtype for node in graph.model.graph for value in node.outputs}
        self._whole = [name for name in names if name not in given and kinds[name] != ir.DataType.FLOAT]
        self._probed = [name for name in names if name not in given and kinds[name] == ir.DataType.FLOAT]
        self._given = [name for name in names if name in given]
        self._place = {name: index for index, name in enumerate(names)}
        self._probed_places = np.array([self._place[name] for name in self._probed], int)
        self._outputs = [*([REPORT] if self._probed else []), *self._whole]
        self._observer: Observer | None = None
        if self._outputs:
            path = folder / "probed.onnx"
            _probed(graph, self._probed, self._whole).save(path)
            self._session = open_session(path, config=SessionConfig(threads=threads)).session

    def read(self, feed: Feed, index: int) -> Reading:
        """Runs the graph on one feed; `index` is told in errors.

        Raises:
            CalibrationError: onnxruntime could not run it, or a tensor holds NaN.
        """
        tensors = len(self._names)
        reading = Reading(np.full(tensors, np.inf), np.full(tensors, -np.inf), [np.zeros(0, np.uint16)] * tensors)
        outputs = self._run(feed, index)
        if self._probed:
            self._take_probed(reading, outputs, feed, index)
        for name in self._whole:
            self._take(reading, name, outputs[name], index)
        for name in self._given:
            self._take(reading, name, feed[name], index)
        return reading

    def _run(self, feed: Feed, index: int) -> dict[str, np.ndarray]:
        if not self._outputs:
            return {}
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(feed)), strict=True))
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            reason = " ".join(str(error).split())[:200]
            raise CalibrationError(f"calibrate on example {index}: onnxruntime could not run it: {reason}") from error

    def _take_probed(self, reading: Reading, outputs: dict[str, np.ndarray], feed: Feed, index: int) -> None:
        """What the probes gave; tensors that hold NaN or infinity are looked at whole."""
        report = outputs[REPORT]
        starts = []
        start = 0
        for _ in self._probed:
            starts.append(start)
            start += HEAD + int(report[start])
        heads = np.array(starts[::-1], int)  # the report has the last tensor first
        lows, highs, checks = (report[heads + place] for place in range(1, HEAD))
        counts = report[heads].astype(np.int64)
        sound = np.isfinite(lows) & np.isfinite(highs) | (counts == 0)
        if not (sound.all() and np.isfinite(checks[counts > 0]).all()):
            self._look_closely(reading, ~sound, feed, index)
        places = self._probed_places[sound]
        reading.lows[places], reading.highs[places] = lows[sound], highs[sound]
        keys = keys_of(report)
        firsts, ends = (heads + HEAD)[sound].tolist(), (heads + HEAD + counts)[sound].tolist()
        for place, first, end in zip(places.tolist(), firsts, ends, strict=True):
            reading.keys[place] = keys[first:end]

    def _look_closely(self, reading: Reading, unsound: np.ndarray, feed: Feed, index: int) -> None:
        """Takes the unsound tensors whole, from a second session; one that holds NaN is an error, and named.

        The second session can show every tensor, and is the same for all data: what it gives for an example does not depend on
        the examples before, so shards stay exact.
        """
        if self._observer is None:
            self._observer = Observer(self._graph, self._probed, self._folder, self._threads)
        values = self._observer.values(feed, index)
        for name in self._probed:
            if np.isnan(values[name]).any():
                raise _holds_nan(name, index)
        for name, bad in zip(self._probed, unsound.tolist(), strict=True):
            if bad:
                self._take(reading, name, values[name], index)

    def _take(self, reading: Reading, name: str, value: np.ndarray, index: int) -> None:
        """Takes a tensor that is there whole. Masks of minus infinity say nothing of the range of the rest, and are left out."""
        counted = sample(value)
        finite = np.isfinite(value)
        if not finite.all():
            if np.isnan(value).any():
                raise _holds_nan(name, index)
            counted, value = counted[np.isfinite(counted)], value[finite]
        if value.size:
            place = self._place[name]
            reading.lows[place], reading.highs[place] = float(value.min()), float(value.max())
            reading.keys[place] = keys_of(counted)


def _holds_nan(name: str, index: int) -> CalibrationError:
    return CalibrationError(f"calibrate on example {index}: tensor {name!r} holds NaN; the float model is broken on it")


def _probed(graph: Graph, probed: Sequence[str], whole: Sequence[str]) -> Graph:
    """The graph with probes on the tensors of `probed`; its outputs are the probes' results and the tensors of `whole`."""

    def edit(model: ir.Model) -> str:
        values = {value.name: value for node in model.graph for value in node.outputs}
        finals = {value.name for value in model.graph.outputs}
        builder = _ProbeNodes(model.graph, [values[name] for name in probed])
        for name in reversed(probed):
            producer = values[name].producer()
            clamped = producer is not None and producer.op_type in CLAMPS and name not in finals
            builder.probe(values[name], checked=not clamped)
        model.graph.outputs[:] = [*([builder.report()] if probed else []), *(values[name] for name in whole)]
        return f"{len(probed)} probes"

    return graph.changed("probe", edit)


class _ProbeNodes:
    """Adds probes to a graph.

    They are made from the last tensor to the first, for the sake of the order in which things run. onnxruntime plans backwards from
    a graph's outputs, and of a node's inputs it takes the one first that was made last: so it comes to the first tensor, and to
    all of its probe, before the next tensor is computed. Then each probe finds its values in the cache, and memory is free
    again soon. The other way round every tensor is kept until the end, and probes cost almost twice as much.

    Args:
        graph: The graph, which is edited.
        values: What is probed, in the order in which it is computed.
    """

    def __init__(self, graph: ir.Graph, values: Sequence[ir.Value]) -> None:
        self._graph = graph
        self._flat = self._constant("flat", np.array([-1]))
        self._start, self._end = self._constant("start", np.array([0])), self._constant("end", np.array([2**62]))
        self._sample = self._constant("sample", np.array([SAMPLE]))
        self._last = self._constant("last", np.array([LARGEST_MULTIPLE - 1]))
        self._strides = self._constant("strides", stride_table())
        self._stride_of: dict[str, ir.Value] = {}
        self._parts: list[ir.Value] = []
        # Tensors of one declared shape share the stride, since every node costs a microsecond.
        self._first_of: dict[str, ir.Value] = {}
        for value in values:
            self._first_of.setdefault(_shape_key(value), value)

    def probe(self, value: ir.Value, *, checked: bool) -> None:
        """Probes one tensor.

        Minimum and maximum of onnxruntime pass over NaN, a sum does not. What a clamp gives is not `checked` by a sum, as that
        would cost a third pass over the largest tensors: NaN in it shows behind the next product.
        """
        flat = self._node("Reshape", value, self._flat)
        low, high = self._node("ReduceMin", flat), self._node("ReduceMax", flat)
        check = self._node("ReduceSum", flat) if checked else high
        counted = self._node("Slice", flat, self._start, self._end, self._start, self._stride(value))
        count = self._node("Cast", self._node("Shape", counted), to=ir.DataType.FLOAT)  # exact: far below 2²⁴
        self._parts += [count, low, high, check, counted]

    def report(self) -> ir.Value:
        """All results in one array: for each tensor, the last one first, its head and its sample."""
        value = ir.Value(name=REPORT, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([None]))
        self._graph.append(ir.node("Concat", self._parts, {"axis": 0}, outputs=[value]))
        return value

    def _stride(self, value: ir.Value) -> ir.Value:
        """The stride by `sampling`'s rule."""
        key = _shape_key(value)
        if key not in self._stride_of:
            size = self._node("Size", self._first_of[key])
            multiple = self._node("Min", self._node("Div", size, self._sample), self._last)
            self._stride_of[key] = self._node("Gather", self._strides, multiple)
        return self._stride_of[key]

    def _node(self, operator: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        node = ir.node(operator, inputs, attributes)
        self._graph.append(node)
        return node.outputs[0]

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        tensor = ir.Tensor(array if array.dtype == np.float32 else array.astype(np.int64), name=PREFIX + name)
        value = ir.Value(name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
        self._graph.register_initializer(value)
        return value


def _shape_key(value: ir.Value) -> str:
    """Equal for tensors that are declared with the same shape; one of no known shape is on its own."""
    shape = value.shape
    known = shape is not None and all(isinstance(axis, int) or axis.value is not None for axis in shape)
    return str(shape) if known else str(value.name)
