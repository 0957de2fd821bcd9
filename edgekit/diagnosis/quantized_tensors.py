"""What a quantized file rounds: its activations with their ranges, its weights with what is left of their values.

They are found by the names that onnxruntime's quantizers give (``NAME_scale``, ``NAME_zero_point``, ``NAME_quantized``) and by the
QuantizeLinear nodes themselves, of tensors that the float model has, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["IntegerWeight", "Rounding", "integer_weights", "roundings_of", "stored_arrays"]

# The values of a weight that was only rounded are near the float ones. Where scales were moved between layers, they are not.
SAME_WEIGHT = 0.5


@dataclass(frozen=True)
class Rounding:
    """How one activation is rounded.

    Attributes:
        tensor: Its name in the float model.
        scale: Size of a step.
        zero_point: The integer that stands for zero.
        least: The smallest integer of its type.
        most: The largest.
    """

    tensor: str
    scale: float
    zero_point: int
    least: int
    most: int

    @property
    def low(self) -> float:
        """The smallest value that it can hold."""
        return (self.least - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The largest value that it can hold."""
        return (self.most - self.zero_point) * self.scale

    def fitted(self, low: float, high: float) -> Rounding:
        """The same type with the range of some values, which takes in zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-12) / (self.most - self.least)
        zero_point = int(np.clip(round(self.least - low / scale), self.least, self.most))
        return Rounding(self.tensor, scale, zero_point, self.least, self.most)


@dataclass(frozen=True)
class IntegerWeight:
    """A weight as its integers read.

    Attributes:
        name: Its name in the float model.
        values: What the integers stand for, float32, of the float weight's shape.
        shared: Whether one scale serves all channels.
        axis: The axis of its output channels.
    """

    name: str
    values: np.ndarray
    shared: bool
    axis: int


def stored_arrays(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The initializers of the main graph."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def roundings_of(proto: onnx.ModelProto, stored: Mapping[str, np.ndarray], tensors: Collection[str]) -> dict[str, Rounding]:
    """How activations are rounded, by name; those of `tensors` that have one scale.

    Args:
        proto: The quantized file.
        stored: Its `stored_arrays`.
        tensors: Names of the float model's activations.
    """
    parameters = {name: (f"{name}_scale", f"{name}_zero_point") for name in tensors}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in parameters and len(node.input) > 2:
            parameters[node.input[0]] = (node.input[1], node.input[2])
    found = {}
    for name, (scale, zero_point) in parameters.items():
        if scale in stored and zero_point in stored and stored[scale].size == 1 and stored[zero_point].dtype.kind in "iu":
            limits = np.iinfo(stored[zero_point].dtype)
            step, zero = float(stored[scale].reshape(())), int(stored[zero_point].reshape(-1)[0])
            found[name] = Rounding(name, step, zero, int(limits.min), int(limits.max))
    return found


def integer_weights(
    proto: onnx.ModelProto, stored: Mapping[str, np.ndarray], floats: Mapping[str, np.ndarray]
) -> dict[str, IntegerWeight]:
    """The weights that are integers, by name; those of `floats` that kept their name, shape and size.

    Args:
        proto: The quantized file.
        stored: Its `stored_arrays`.
        floats: The float model's.
    """
    axes = {
        node.input[0]: next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear"
    }
    found = {}
    for name, floating in floats.items():
        integers, scales = stored.get(f"{name}_quantized"), stored.get(f"{name}_scale")
        if floating.ndim < 2 or integers is None or scales is None or integers.shape != floating.shape:
            continue
        zero = stored.get(f"{name}_zero_point", np.zeros((), np.int8)).astype(np.float32)
        # Convolutions count their output channels first, products last.
        axis = axes.get(f"{name}_quantized")
        axis = (0 if floating.ndim > 2 else floating.ndim - 1) if axis is None or scales.size == 1 else int(axis)
        shape = [1] * floating.ndim
        if scales.size > 1:
            if scales.size != floating.shape[axis]:
                continue  # in blocks
            shape[axis] = -1
        # A zero point of one for all channels is of one value, too.
        points = zero.reshape(shape) if zero.size == scales.size else zero.reshape(-1)[:1]
        values = ((integers.astype(np.float32) - points) * scales.astype(np.float32).reshape(shape)).astype(np.float32)
        if np.linalg.norm(values - floating) <= SAME_WEIGHT * np.linalg.norm(floating):
            found[name] = IntegerWeight(name, values, scales.size == 1, axis)
    return found
