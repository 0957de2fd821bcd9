"""Intermediate values of a graph, streamed: one session, one example at a time."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgekit_export.calibration.checked_feeds import Feed, checked
from edgekit_export.graph import Graph
from edgekit_runtime.errors import CalibrationError
from edgekit_runtime.session import SessionConfig, open_session

__all__ = ["Observer", "observed"]


def observed(
    graph: Graph, names: Sequence[str], feeds: Iterable[Feed], *, threads: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """The values of some tensors, example by example; nothing of an example is kept once the next one is asked for.

    The model is opened once, at the first example, and runs with onnxruntime's full optimization: only the asked-for
    tensors are kept from being fused away, so asking for few costs little more than plain inference.

    Args:
        graph: Any graph that onnxruntime runs, float or quantized.
        names: Tensors of the main graph: inputs, intermediate values, outputs. A name may be given twice.
        feeds: Feeds, taken one at a time and checked.
        threads: As in `SessionConfig`.

    Yields:
        For each feed one value for each of `names`, with the dtype and shape that the graph gives it.

    Raises:
        CalibrationError: A name is no tensor of the graph, or a feed does not fit or cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        observer = Observer(graph, names, Path(folder), threads)
        for index, feed in enumerate(checked(feeds, graph.inputs)):
            yield observer.values(feed, index)


class Observer:
    """A graph opened so that some of its tensors can be read.

    Args:
        graph: Any graph that onnxruntime runs.
        names: Tensors of the main graph.
        folder: Where the model file is written, to be opened from there.
        threads: As in `SessionConfig`.

    Raises:
        CalibrationError: A name is no tensor of the graph.
        SessionError: onnxruntime does not open the graph.
    """

    def __init__(self, graph: Graph, names: Sequence[str], folder: Path, threads: int | None = None) -> None:
        self.names = tuple(dict.fromkeys(names))
        given = {spec.name for spec in graph.inputs}
        self._run = [name for name in self.names if name not in given]
        path = folder / "observed.onnx"
        with_outputs(graph, self._run).save(path)
        self._session = open_session(path, config=SessionConfig(threads=threads)).session

    def values(self, feed: Feed, index: int) -> dict[str, np.ndarray]:
        """The tensors' values on one feed; `index` is told in errors.

        Raises:
            CalibrationError: onnxruntime could not run it.
        """
        found: dict[str, np.ndarray] = {}
        if self._run:
            try:
                found = dict(zip(self._run, self._session.run(self._run, dict(feed)), strict=True))
            except Exception as error:  # onnxruntime raises a dozen unrelated types
                reason = " ".join(str(error).split())[:200]
                raise CalibrationError(f"calibrate on example {index}: onnxruntime could not run it: {reason}") from error
        return {name: found[name] if name in found else feed[name] for name in self.names}


def with_outputs(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with every tensor of `names` among its outputs.

    Raises:
        CalibrationError: A name is no tensor that a node of the main graph gives.
    """
    values = {value.name: value for node in graph.model.graph for value in node.outputs}
    unknown = [name for name in names if name not in values]
    if unknown:
        raise CalibrationError(f"observe {unknown[:5]}: no such tensor among inputs and what nodes of the main graph give")

    def edit(model: ir.Model) -> str:
        present = {value.name for value in model.graph.outputs}
        copies = {value.name: value for node in model.graph for value in node.outputs}
        model.graph.outputs.extend(copies[name] for name in dict.fromkeys(names) if name not in present)
        return f"{len(names)} tensors observed"

    return graph.changed("observe", edit)
