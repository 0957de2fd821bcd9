"""Adding a constant to a quantized layer's output: into its integer bias, or into what is added behind it."""

import numpy as np
import onnx_ir as ir

from edgekit_export.corrections.layers import constant, set_initializer
from edgekit_export.initializers import add_initializer

__all__ = ["absorb"]

# Operators with integer kernels: a float Add between two of them would make both compute in float.
INTEGER = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "QuantizeLinear"})
# So have these, where their result is quantized too; the last four only move integers about.
INTEGER_BETWEEN = frozenset(
    {"Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid", "Softmax", "Where"}
    | {"MaxPool", "Reshape", "Transpose", "Gather"}
)


def absorb(model: ir.Model, node: ir.Node, shift: np.ndarray) -> bool:
    """Adds `shift`, (outputs,), to what a Conv, Gemm or MatMul of a Q/DQ graph gives, in place.

    Returns:
        Whether there was a place for it.
    """
    if node.op_type == "MatMul":
        return _behind(model, node.outputs[0], shift)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return _new(model, node, shift)
    if (array := constant(bias)) is not None:
        set_initializer(model, bias, node, (array + shift.reshape(array.shape)).astype(np.float32))
        return True
    dequantize = bias.producer()
    stored = _initializer(dequantize, 0)
    scale = _initializer(dequantize, 1)
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or stored is None or scale is None:
        return False
    steps = np.rint(shift.reshape(stored.shape) / scale.astype(np.float64))
    bounds = np.iinfo(stored.dtype)
    integers = np.clip(stored.astype(np.float64) + steps, bounds.min, bounds.max).astype(stored.dtype)
    if len(list(bias.uses())) > 1:
        dequantize = _own(model, dequantize, node, bias)
    value = dequantize.inputs[0]
    if value is not None:
        _set(model, value, dequantize, integers)
    return True


def _behind(model: ir.Model, output: ir.Value, shift: np.ndarray) -> bool:
    """Into the constant added to a MatMul's output, past its Q and DQ; or into an Add of its own."""
    while True:
        uses = list(output.uses())
        if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            break
        output = uses[0].node.outputs[0]
    if len(uses) == 1 and uses[0].node.op_type == "Add" and not output.is_graph_output():
        added = uses[0].node
        value = added.inputs[1 - uses[0].idx]
        array = constant(value)
        if value is not None and array is not None and array.size == array.shape[-1] == shift.size:
            set_initializer(model, value, added, (array + shift.reshape(array.shape)).astype(np.float32))
            return True
    if output.is_graph_output() or any(_computes_in_integers(use.node) for use in uses):
        return False
    name = f"{output.name}_debiased"
    by = add_initializer(model.graph, f"{name}_by", shift.astype(np.float32))
    node = ir.node("Add", [output, by], name=f"debias_{output.name}")
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = name, output.shape, output.type
    producer = output.producer()
    if producer is None:
        return False
    model.graph.insert_after(producer, node)
    for use in uses:
        use.node.replace_input_with(use.idx, node.outputs[0])
    return True


def _computes_in_integers(node: ir.Node) -> bool:
    """Whether a node with a dequantized input may have an integer kernel."""
    quantized = any(use.node.op_type == "QuantizeLinear" for output in node.outputs for use in output.uses())
    return node.op_type in INTEGER or (node.op_type in INTEGER_BETWEEN and quantized)


def _new(model: ir.Model, node: ir.Node, shift: np.ndarray) -> bool:
    """A bias for a Conv or Gemm without one: int32, its step the product of the steps of input and weight."""
    scales = []
    for value in node.inputs[:2]:
        producer = value.producer() if value is not None else None
        scale = _initializer(producer, 1) if producer is not None and producer.op_type == "DequantizeLinear" else None
        if scale is None:
            return False
        scales.append(scale.astype(np.float64))
    step = np.broadcast_to((scales[0] * scales[1]).reshape(-1), shift.shape).astype(np.float32)
    bounds = np.iinfo(np.int32)
    integers = np.clip(np.rint(shift / step.astype(np.float64)), bounds.min, bounds.max).astype(np.int32)
    name = f"{node.name}_debias"
    inputs = [
        add_initializer(model.graph, f"{name}_quantized", integers),
        add_initializer(model.graph, f"{name}_scale", step),
        add_initializer(model.graph, f"{name}_zero_point", np.zeros(shift.shape, np.int32)),
    ]
    dequantize = ir.node("DequantizeLinear", inputs, attributes={"axis": 0}, name=f"{name}_DequantizeLinear")
    dequantize.outputs[0].name = name
    model.graph.insert_before(node, dequantize)
    node.resize_inputs(3)
    node.replace_input_with(2, dequantize.outputs[0])
    return True


def _own(model: ir.Model, dequantize: ir.Node, node: ir.Node, bias: ir.Value) -> ir.Node:
    """A copy of a bias's DequantizeLinear for one of the nodes that share it."""
    copy = ir.node(
        "DequantizeLinear", list(dequantize.inputs), attributes=dict(dequantize.attributes), name=f"{dequantize.name}_{node.name}"
    )
    copy.outputs[0].name = f"{bias.name}_{node.name}"
    copy.outputs[0].type, copy.outputs[0].shape = bias.type, bias.shape
    model.graph.insert_before(node, copy)
    node.replace_input_with(2, copy.outputs[0])
    return copy


def _initializer(node: ir.Node | None, index: int) -> np.ndarray | None:
    value = node.inputs[index] if node is not None and index < len(node.inputs) else None
    return value.const_value.numpy() if value is not None and value.is_initializer() and value.const_value is not None else None


def _set(model: ir.Model, value: ir.Value, node: ir.Node, integers: np.ndarray) -> None:
    if all(use.node is node for use in value.uses()):
        value.const_value = ir.tensor(integers, name=value.name)
    else:
        node.replace_input_with(0, add_initializer(model.graph, f"{value.name}_{node.name}", integers))
