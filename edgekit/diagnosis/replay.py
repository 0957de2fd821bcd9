"""A quantized model's rounding replayed on its float graph, where each part of it can be changed or left out.

The float graph gets the integer weights' values, and behind every rounded tensor the same rounding in float arithmetic. Steps and
ranges are inputs with defaults, so that one session answers what would be if a range were another, or a tensor were not rounded.
What onnxruntime computes in integers agrees with that up to the rounding of sums, so long as nothing saturates inside the kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.diagnosis.quantized_tensors import Rounding
from edgekit.recipe import Arrays
from edgekit_runtime.errors import SessionError
from edgekit_runtime.session import SessionConfig, open_session, short_reason

if TYPE_CHECKING:
    import onnx

__all__ = ["Replay", "with_outputs"]

PREFIX = "edgekit_replay_"


class Replay:
    """The float graph with a quantized model's rounding in it.

    Args:
        proto: The float model, whole.
        roundings: How its activations are rounded, by name.
        weights: Values to put in the place of its weights, by name.
        folder: Where the graph is written, to be opened from there.
        threads: As in `SessionConfig`.
        watched: Give all rounded tensors, too.

    Raises:
        SessionError: onnxruntime does not open it.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        roundings: Mapping[str, Rounding],
        weights: Mapping[str, np.ndarray],
        folder: Path,
        threads: int | None = None,
        *,
        watched: bool = False,
    ) -> None:
        import onnx

        self.roundings = dict(roundings)
        self._places = {name: index for index, name in enumerate(roundings)}
        path = folder / f"replay-{len(list(folder.glob('replay-*')))}.onnx"
        model = _with_weights(proto, weights)
        self._rewire(model)
        if watched:
            given = {value.name for value in model.graph.input}
            model = with_outputs(model, [name for name in roundings if name not in given])
        onnx.save(model, path)
        self._path = path
        self._session = open_session(path, config=SessionConfig(threads=threads)).session
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feed: Arrays, off: Collection[str] = (), ranges: Mapping[str, Rounding] | None = None) -> Arrays:
        """The outputs with the tensors of `off` not rounded, and with those of `ranges` rounded in another way.

        Raises:
            SessionError: onnxruntime failed.
        """
        given = dict(feed)
        for name in off:
            given[f"{PREFIX}on_{self._places[name]}"] = np.asarray(False)
        for name, rounding in (ranges or {}).items():
            for part, value in _parameters(rounding):
                given[f"{PREFIX}{part}_{self._places[name]}"] = np.asarray(value, np.float32)
        try:
            return dict(zip(self._names, self._session.run(self._names, given), strict=True))
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise SessionError(f"replay {self._path.name}: {short_reason(error)}") from error

    def _rewire(self, model: onnx.ModelProto) -> None:
        """Puts the rounding behind what makes each tensor."""
        from onnx import TensorProto, helper, numpy_helper

        graph = model.graph
        for name, index in self._places.items():
            defaults = [("on", np.asarray(True)), *((part, np.float32(value)) for part, value in _parameters(self.roundings[name]))]
            for part, value in defaults:
                array = np.asarray(value)
                kind = TensorProto.BOOL if part == "on" else TensorProto.FLOAT
                graph.initializer.append(numpy_helper.from_array(array, f"{PREFIX}{part}_{index}"))
                graph.input.append(helper.make_tensor_value_info(f"{PREFIX}{part}_{index}", kind, []))
        nodes: list[onnx.NodeProto] = []
        renamed = {value.name: f"{PREFIX}of_{value.name}" for value in graph.input if value.name in self._places}
        for name, new in renamed.items():
            nodes += _rounding_nodes(name, new, self._places[name])
        for node in graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            nodes.append(node)
            for position, name in enumerate(node.output):
                if name in self._places:
                    node.output[position] = f"{PREFIX}float_{name}"
                    nodes += _rounding_nodes(f"{PREFIX}float_{name}", name, self._places[name])
        held = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(held)


def with_outputs(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """A copy that gives some of its tensors, too."""
    import onnx

    copy = type(model)()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return copy


def _with_weights(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    from onnx import numpy_helper

    model = type(proto)()
    model.CopyFrom(proto)
    del model.graph.value_info[:]
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return model


def _parameters(rounding: Rounding) -> Iterator[tuple[str, float]]:
    """A step, and the smallest and the largest number of steps."""
    yield "step", rounding.scale
    yield "least", float(rounding.least - rounding.zero_point)
    yield "most", float(rounding.most - rounding.zero_point)


def _rounding_nodes(source: str, target: str, index: int) -> list[onnx.NodeProto]:
    """``target = on ? round(source / step) clipped to [least, most] · step : source``; Min and Max are in every operator set."""
    from onnx import helper

    on, step, least, most = (f"{PREFIX}{part}_{index}" for part in ("on", "step", "least", "most"))
    steps, whole, above, inside, rounded = (f"{PREFIX}{part}_{index}" for part in ("steps", "whole", "above", "inside", "rounded"))
    return [
        helper.make_node("Div", [source, step], [steps], name=steps),
        helper.make_node("Round", [steps], [whole], name=whole),
        helper.make_node("Max", [whole, least], [above], name=above),
        helper.make_node("Min", [above, most], [inside], name=inside),
        helper.make_node("Mul", [inside, step], [rounded], name=rounded),
        helper.make_node("Where", [on, rounded, source], [target], name=f"{PREFIX}where_{index}"),
    ]
