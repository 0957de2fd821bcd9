"""Forms along the width: what becomes of a node when the axis that its values extend over becomes their last.

Values are (batch, channels, length), which become (batch, channels, 1, length), or (batch, channels, length, 1), which change their
last two axes. Attributes, weights and constants that speak of these axes change with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from edgekit_export.initializers import add_initializer
from edgekit_export.rewiring import constant

__all__ = ["Exchange", "converted", "data_inputs"]

Axis = TypeVar("Axis")

# Elementwise with one tensor; what else they take are scalars.
UNARY = frozenset(
    {"Relu", "Clip", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Gelu"}
    | {"Softplus", "Softsign", "Mish", "Erf", "Sqrt", "Abs", "Neg", "Exp", "Log", "Reciprocal", "Sin", "Cos", "Identity"}
)
# Elementwise with several tensors, or constants, that are broadcast.
BROADCAST = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "PRelu"})
POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
# By channel, whatever the axes behind it are.
BY_CHANNEL = frozenset({"BatchNormalization", "InstanceNormalization", "GlobalAveragePool", "GlobalMaxPool"})
ALONG_AN_AXIS = frozenset({"Concat", "Split"})
KNOWN = UNARY | BROADCAST | POOLS | BY_CHANNEL | ALONG_AN_AXIS | {"Conv", "Pad", "Slice"}
# Both spell it; onnxruntime's own was there first.
CONTRIB = frozenset({"Gelu"})
# What a new axis of length 1 gets.
NEW_AXIS = {"kernel_shape": 1, "strides": 1, "dilations": 1}


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs that extend over the axis, and that are computed."""
    several = BROADCAST | {"Concat"}
    values = node.inputs if node.op_type in several else node.inputs[:1]
    return [value for value in values if value is not None and constant(value) is None]


@dataclass(frozen=True)
class Exchange:
    """How the values of a node are turned.

    Attributes:
        rank: Of its values: 3 gets a height of 1, 4 changes height and width.
    """

    rank: int

    @classmethod
    def of(cls, node: ir.Node) -> "Exchange | None":
        """How a node is turned; ``None`` where it cannot be, exactly."""
        if node.op_type not in KNOWN or (node.domain not in ("", "ai.onnx") and node.op_type not in CONTRIB):
            return None
        data = data_inputs(node)
        values = [*data, *node.outputs]
        ranks = {len(value.shape) if value.shape is not None else 0 for value in values}
        if not data or ranks not in ({3}, {4}):
            return None
        form = cls(ranks.pop())
        if form.rank == 4 and any(value.shape is None or value.shape[3] != 1 for value in values):
            return None
        return form if _readable(node, form) else None

    def shape(self, shape: ir.Shape | None) -> ir.Shape | None:
        """A shape of the region, from that of before."""
        return None if shape is None else ir.Shape(self._turned(list(shape), 1))

    def axis(self, axis: int) -> int:
        """Where an axis of before is now."""
        axis %= self.rank
        return axis if axis < 2 else 3 if axis == 2 else 2

    def spatial(self, values: Sequence[int], new: int) -> list[int]:
        """Numbers for each axis behind the channels; `new` for one that there was not."""
        return [new, *values] if self.rank == 3 else list(values[::-1])

    def array(self, array: np.ndarray) -> np.ndarray:
        """A constant that is broadcast against values, or a convolution's weights (filters, channels, …)."""
        if array.size == 1:
            return array
        full = array.reshape((1,) * (self.rank - array.ndim) + array.shape)
        return np.ascontiguousarray(np.expand_dims(full, 2) if self.rank == 3 else full.swapaxes(2, 3))

    def weight(self, array: np.ndarray) -> np.ndarray:
        """A convolution's weights (filters, channels, …)."""
        return np.ascontiguousarray(np.expand_dims(array, 2) if self.rank == 3 else array.swapaxes(2, 3))

    def by_axis(self, values: Sequence[int], new: int) -> list[int]:
        """Numbers for each axis, batch and channels among them."""
        return self._turned(list(values), new)

    def unmoved(self, shape: ir.Shape | None) -> bool:
        """Whether a value of this shape is the same in both forms."""
        return self.rank == 4 and shape is not None and shape[2] == 1

    def border(self, shape: ir.Shape | None, *, back: bool) -> tuple[str, list[np.ndarray], dict[str, Sequence[int]]]:
        """Operator, constant inputs and attributes that turn a value; `shape` is that outside the region."""
        if self.rank == 3:
            return ("Squeeze" if back else "Unsqueeze"), [np.array([2], np.int64)], {}
        length = shape[2] if shape is not None else None
        if not isinstance(length, int) or length == 0:
            return "Transpose", [], {"perm": [0, 1, 3, 2]}
        return "Reshape", [np.array([0, 0, length, 1] if back else [0, 0, 1, length], np.int64)], {}

    def _turned(self, values: list[Axis], new: Axis) -> list[Axis]:
        batch, channels, length, *width = values
        return [batch, channels, *(width or [new]), length]


def _readable(node: ir.Node, form: Exchange) -> bool:
    """Whether what a node says of its axes is there to be read, and its outputs are values alone."""
    operator = node.op_type
    if operator == "Conv":
        weight = constant(node.inputs[1])
        return weight is not None and weight.ndim == form.rank
    if operator in POOLS | {"BatchNormalization"}:
        # Indices and running statistics are outputs, too.
        return len(node.outputs) == 1 and not node.attributes.get_int("training_mode", 0)
    if operator in BROADCAST:
        arrays = [array for value in node.inputs if (array := constant(value)) is not None]
        return all(array.ndim <= form.rank for array in arrays)
    if operator == "Concat":
        return len(data_inputs(node)) == len(node.inputs)
    if operator == "Pad":
        axes = node.inputs[3] if len(node.inputs) > 3 else None
        return axes is None and len(node.inputs) > 1 and constant(node.inputs[1]) is not None
    if operator == "Slice":
        return len(node.inputs) > 3 and all(value is None or constant(value) is not None for value in node.inputs[1:])
    return True


def converted(node: ir.Node, form: Exchange, graph: ir.Graph) -> None:
    """Changes a node in place for values along the width."""
    if node.op_type == "Conv":
        _replace(node, 1, form.weight(_read(node, 1)), graph)
    if node.op_type in POOLS | {"Conv"}:
        _spatial_attributes(node, form)
    elif node.op_type in BROADCAST:
        for index, value in enumerate(node.inputs):
            if constant(value) is not None:
                _replace(node, index, form.array(_read(node, index)), graph)
    elif node.op_type in ALONG_AN_AXIS:
        node.attributes["axis"] = ir.AttrInt64("axis", form.axis(node.attributes.get_int("axis", 0)))
    elif node.op_type == "Pad":
        before, after = np.split(_read(node, 1), 2)
        _replace(node, 1, np.array(form.by_axis(before.tolist(), 0) + form.by_axis(after.tolist(), 0), np.int64), graph)
    elif node.op_type == "Slice":
        _replace(node, 3, np.array([form.axis(int(axis)) for axis in _read(node, 3)], np.int64), graph)


def _spatial_attributes(node: ir.Node, form: Exchange) -> None:
    for name, new in NEW_AXIS.items():
        values = node.attributes.get_ints(name, None)
        if values is not None:
            node.attributes[name] = ir.AttrInt64s(name, form.spatial(values, new))
    pads = node.attributes.get_ints("pads", None)
    if pads is not None:
        half = len(pads) // 2
        node.attributes["pads"] = ir.AttrInt64s("pads", form.spatial(pads[:half], 0) + form.spatial(pads[half:], 0))


def _read(node: ir.Node, index: int) -> np.ndarray:
    array = constant(node.inputs[index])
    if array is None:
        raise ValueError(f"{node.op_type} {node.name}: input {index} is no constant")
    return array


def _replace(node: ir.Node, index: int, array: np.ndarray, graph: ir.Graph) -> None:
    """Gives a node another constant; others may read the one that it had."""
    value = node.inputs[index]
    old = constant(value)
    if value is not None and (old is not array):
        node.replace_input_with(index, add_initializer(graph, f"{value.name}_along", array))
