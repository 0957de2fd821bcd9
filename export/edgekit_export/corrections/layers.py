"""Layers: the convolutions and products of a graph that have a constant float weight, seen as matrices."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer

__all__ = ["Layer", "bias_of", "constant", "layers_of", "set_initializer"]

OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul with a constant weight.

    Attributes:
        name: The node's name.
        operator: ``Conv``, ``Gemm`` or ``MatMul``.
        input: Name of the tensor that it reads.
        output: Name of the tensor that it gives.
        weight: The weight's name.
        values: The weight as the graph holds it, float32: (outputs, inputs a group, kernel …) for Conv, (inputs, outputs) for
            MatMul, either way round for Gemm.
        transposed: Whether `values` is (inputs, outputs).
        groups: Of a convolution; 1 otherwise.
        bias: Name of the initializer that is added to the output, (outputs,), or ``None``; that of a MatMul belongs to the Add
            behind it.
    """

    name: str
    operator: str
    input: str
    output: str
    weight: str
    values: np.ndarray
    transposed: bool
    groups: int
    bias: str | None

    @property
    def outputs(self) -> int:
        """How many output channels there are."""
        return int(self.values.shape[1 if self.transposed else 0])

    @property
    def channel_axis(self) -> int:
        """Where channels are in the tensors that it reads and gives."""
        return 1 if self.operator == "Conv" else -1

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel."""
        return self.operator == "Conv" and self.groups > 1 and self.values.shape[1] == 1

    def thinned(self, values: np.ndarray, most: int) -> np.ndarray:
        """Of what the layer gave, at most so many positions, evenly spread: (positions, outputs)."""
        flat = np.moveaxis(values, self.channel_axis, -1).reshape(-1, self.outputs)
        return flat[:: -(-len(flat) // most)] if len(flat) else flat

    def rows(self) -> np.ndarray:
        """The weight as (groups, outputs a group, inputs a group × kernel), float64."""
        matrix = self.values.T if self.transposed else self.values
        return matrix.astype(np.float64).reshape(self.groups, self.outputs // self.groups, -1)

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """The weight as the graph holds it, from what `rows` gave."""
        matrix = rows.astype(np.float32)
        if self.transposed:
            return np.ascontiguousarray(matrix.reshape(self.outputs, -1).T)
        return np.ascontiguousarray(matrix.reshape(self.values.shape))


def layers_of(graph: Graph | ir.Model) -> list[Layer]:
    """The layers of the main graph, in its order; those with another dtype, or a Gemm that scales or transposes, are left out."""
    model = graph.model if isinstance(graph, Graph) else graph
    return [layer for node in model.graph if (layer := _layer(node)) is not None]


def set_initializer(model: ir.Model, value: ir.Value, node: ir.Node, array: np.ndarray) -> ir.Value:
    """Gives `node` another constant in the place of `value`; other nodes that use `value` keep what it was.

    Returns:
        The initializer that now holds `array`.
    """
    if all(use.node is node for use in value.uses()):
        value.const_value = ir.tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        return value
    own = add_initializer(model.graph, f"{value.name}_{node.name}", array)
    for index, used in enumerate(node.inputs):
        if used is value:
            node.replace_input_with(index, own)
    return own


def constant(value: ir.Value | None) -> np.ndarray | None:
    """A float32 initializer's array, or ``None`` for anything else."""
    if value is None or not value.is_initializer() or value.is_graph_output():
        return None
    tensor = value.const_value
    return tensor.numpy() if tensor is not None and tensor.dtype == ir.DataType.FLOAT else None


def bias_of(node: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """The node and the initializer that add a constant for each output channel of `node`."""
    if node.op_type in ("Conv", "Gemm"):
        value = node.inputs[2] if len(node.inputs) > 2 else None
        return (node, value) if value is not None and _per_channel(value, node) else None
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or node.outputs[0].is_graph_output():
        return None
    added = uses[0].node
    value = added.inputs[1 - uses[0].idx]
    return (added, value) if value is not None and _per_channel(value, node) else None


def _per_channel(value: ir.Value, node: ir.Node) -> bool:
    array, weight = constant(value), constant(node.inputs[1])
    if array is None or weight is None:
        return False
    outputs = weight.shape[0] if node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1 else weight.shape[-1]
    return bool(array.size == outputs == array.shape[-1])


def _layer(node: ir.Node) -> Layer | None:
    values = constant(node.inputs[1]) if node.op_type in OPERATORS and node.domain == "" else None
    if values is None or node.inputs[0] is None or node.inputs[0].is_initializer() or values.ndim < 2:
        return None
    if node.op_type != "Conv" and values.ndim != 2:
        return None
    attributes = node.attributes
    if node.op_type == "Gemm" and (
        attributes.get_int("transA", 0) == 1
        or attributes.get_float("alpha", 1.0) != 1.0
        or attributes.get_float("beta", 1.0) != 1.0
    ):
        return None
    bias = bias_of(node)
    return Layer(
        name=str(node.name),
        operator=node.op_type,
        input=str(node.inputs[0].name),
        output=str(node.outputs[0].name),
        weight=str(node.inputs[1].name) if node.inputs[1] is not None else "",
        values=values,
        transposed=node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes.get_int("transB", 0)),
        groups=attributes.get_int("group", 1),
        bias=None if bias is None else str(bias[1].name),
    )
