"""Collecting statistics: one pass over the data, one histogram a tensor, memory that does not grow with the data."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgekit_export.calibration.histogram import Histogram
from edgekit_export.graph import Graph
from edgekit_export.user_code import last_user_line
from edgekit_runtime.errors import CalibrationError, EdgekitError
from edgekit_runtime.manifest import InputRange
from edgekit_runtime.session import SessionConfig, open_session
from edgekit_runtime.tensors import FeedCheck

__all__ = ["Statistics", "calibrate"]

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class Statistics:
    """What calibration saw.

    Attributes:
        histograms: One for each float tensor of the graph, inputs included.
        inputs: Range of each input's values, whatever its dtype.
        examples: How many feeds there were.
    """

    histograms: dict[str, Histogram]
    inputs: dict[str, InputRange]
    examples: int


def calibrate(
    graph: Graph, data: Iterable[Mapping[str, np.ndarray]], on_example: Callable[[int], None] | None = None
) -> Statistics:
    """Runs the graph on calibration data and keeps a histogram of every float tensor.

    Args:
        graph: A prepared float graph.
        data: Feeds, taken one at a time.
        on_example: Told how many examples are done.

    Raises:
        CalibrationError: The data is empty, holds NaN or infinity, or does not fit the graph's inputs.
    """
    names = float_tensors(graph)
    check = FeedCheck(graph.inputs)
    histograms = {name: Histogram() for name in names}
    inputs: dict[str, tuple[float, float]] = {}
    examples = 0
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "observed.onnx"
        _observed(graph, names).save(path)
        # Nothing is fused: every tensor is an output. Basic optimization still folds shapes.
        session = open_session(path, config=SessionConfig(graph_optimization="basic")).session
        given = {spec.name for spec in check.specs}
        wanted = [name for name in names if name not in given]
        for feed in _guarded(data):
            _check_feed(feed, check, examples)
            try:
                outputs = session.run(wanted, dict(feed))
            except Exception as error:  # onnxruntime raises a dozen unrelated types
                reason = " ".join(str(error).split())[:200]
                raise CalibrationError(f"calibrate on example {examples}: onnxruntime could not run it: {reason}") from error
            for name, value in zip(wanted, outputs, strict=True):
                _add(histograms[name], name, value, examples)
            for name, array in feed.items():
                if name in histograms:
                    histograms[name].add(array)
                if array.size and array.dtype.kind in "fiub":
                    low, high = float(array.min()), float(array.max())
                    old = inputs.get(name, (low, high))
                    inputs[name] = (min(low, old[0]), max(high, old[1]))
            examples += 1
            if on_example:
                on_example(examples)
    if examples == 0:
        raise CalibrationError("calibrate: the recipe's calibration() gave no example; give at least a few dozen real inputs")
    return Statistics(histograms, {name: InputRange(*bounds) for name, bounds in inputs.items()}, examples)


def float_tensors(graph: Graph) -> list[str]:
    """Names of all float tensors between inputs and outputs, both included, in order; weights are not among them."""
    values = [*graph.model.graph.inputs, *(value for node in graph.model.graph for value in node.outputs)]
    initializers = graph.model.graph.initializers
    return [
        str(value.name)
        for value in values
        if value.name and value.name not in initializers and isinstance(value.type, ir.TensorType) and value.dtype in FLOATS
    ]


def _observed(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with every tensor of `names` among its outputs."""

    def edit(model: ir.Model) -> str:
        values = {value.name: value for node in model.graph for value in node.outputs}
        present = {value.name for value in model.graph.outputs} | {value.name for value in model.graph.inputs}
        for name in names:
            if name not in present:
                model.graph.outputs.append(values[name])
        return f"{len(names)} tensors observed"

    return graph.changed("observe", edit)


def _guarded(data: Iterable[Mapping[str, np.ndarray]]) -> Iterable[Mapping[str, np.ndarray]]:
    """The data, with what the user's code raises told as calibration's failure."""
    index = 0
    try:
        for feed in data:
            yield feed
            index += 1
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:  # the user's code may raise anything
        raise CalibrationError(
            f"calibrate on example {index}: the recipe's calibration() raised {type(error).__name__}: {error}"
            f"{last_user_line(error)}"
        ) from error


def _check_feed(feed: object, check: FeedCheck, index: int) -> None:
    if not isinstance(feed, Mapping):
        raise CalibrationError(
            f"calibrate on example {index}: calibration() gave {type(feed).__name__}, expected a dict of input name to array"
        )
    try:
        check.check(feed)
    except EdgekitError as error:
        problem = str(error).removeprefix("model call").lstrip(":, ")
        raise CalibrationError(f"calibrate on example {index}: {problem}") from error
    for name, array in feed.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CalibrationError(f"calibrate on example {index}: input {name!r} holds NaN or infinity; clean the data")


def _add(histogram: Histogram, name: str, value: np.ndarray, index: int) -> None:
    finite = np.isfinite(value)
    if finite.all():
        histogram.add(value)
        return
    if np.isnan(value).any():
        raise CalibrationError(f"calibrate on example {index}: tensor {name!r} holds NaN; the float model is broken on it")
    # Masks of minus infinity are part of many attentions; they say nothing of the range of the rest.
    histogram.add(value[finite])
