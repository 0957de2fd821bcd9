"""Compute Hardswish, HardSigmoid and GELU in integers, where a quantized graph has them between Q and DQ nodes.

onnxruntime has no integer kernel for any of them: each costs a round trip through float, which on MobileNetV3-like networks
eats all that int8 wins. Written as below, everything between two convolutions stays in integers.

- HardSigmoid(x) = clip(x, −3, 3) / 6 + 1/2 is a *reading* of x: clipped in integers where x's scale s divides 3, and read again
  with scale s / 6 and the integer of −3 as zero point. It is exact.
- Hardswish(x) = x · HardSigmoid(x) is then one integer product of x with itself, clipped. Hardswish is zero below −3, so x's
  range starts there, which makes its step finer and the lower clip free: exact on the quantized x, up to the product's own
  rounding.
- GELU(x) ≈ x · sigmoid(1.702 x) (Hendrycks and Gimpel, arXiv:1606.08415), which is at most 0.021 away; the factor goes into the
  scale with which the sigmoid reads x. SiLU is of that form already, and needs no rewrite.

Requires: a graph as onnxruntime's QDQ quantizer writes it. Ensures: an activation that cannot be written so is left as it was, and
counted on record.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer

__all__ = ["OPERATORS", "integer_activations"]

OPERATORS = ("HardSwish", "HardSigmoid", "Gelu")
"""What `integer_activations` takes; to be quantized on both sides, although onnxruntime's quantizer does not know them."""

KNEE = 3.0
GELU_FACTOR = 1.702
STEPS = 255
# Step counts for HardSigmoid's gate, in order; one at which its middle falls on an integer makes it exact.
GATE_STEPS = (255, 254, 252, 250, 240)


def integer_activations(graph: Graph) -> Graph:
    """The quantized graph with its activations in integers."""

    def edit(model: ir.Model) -> str | None:
        rewrites = {"HardSwish": _hard_swish, "HardSigmoid": _hard_sigmoid, "Gelu": _gelu}
        found = [node for node in model.graph if node.op_type in rewrites]
        done = 0
        for node in found:
            reading = _reading(node)
            if reading is not None and rewrites[node.op_type](reading, model.graph):
                done += 1
        if not found:
            return None
        common.RemoveUnusedNodesPass()(model)
        return f"{done} of {len(found)} activations in integers"

    return graph.changed("integer activations", edit)


@dataclass(frozen=True)
class _Reading:
    """An activation that reads a dequantized tensor and whose output is quantized again.

    Attributes:
        node: The activation.
        quantize: The QuantizeLinear of its input.
        scale: Step of its input.
        zero: Zero point of its input.
        dtype: The 8-bit type.
        alone: Whether nothing else reads that tensor, so that its range may be changed.
    """

    node: ir.Node
    quantize: ir.Node
    scale: float
    zero: int
    dtype: np.dtype[np.integer[Any]]
    alone: bool

    @property
    def integer(self) -> ir.DataType:
        return ir.DataType.from_numpy(self.dtype)

    @property
    def lowest(self) -> int:
        return int(np.iinfo(self.dtype).min)

    @property
    def highest(self) -> int:
        return int(np.iinfo(self.dtype).max)


def _reading(node: ir.Node) -> _Reading | None:
    dequantize = node.inputs[0].producer() if node.inputs[0] is not None else None
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or dequantize.inputs[0] is None:
        return None
    quantize = dequantize.inputs[0].producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or len(quantize.inputs) < 3:
        return None
    scale, zero = (value.const_value if value is not None else None for value in quantize.inputs[1:3])
    if scale is None or zero is None or scale.size != 1 or zero.dtype not in (ir.DataType.UINT8, ir.DataType.INT8):
        return None
    uses = [use.node.op_type for use in node.outputs[0].uses()]
    if node.outputs[0].is_graph_output() or not uses or set(uses) != {"QuantizeLinear"}:
        return None
    alone = len(dequantize.outputs[0].uses()) == 1 and len(quantize.outputs[0].uses()) == 1
    return _Reading(node, quantize, float(scale.numpy().item()), int(zero.numpy().item()), np.dtype(zero.dtype.numpy()), alone)


def _hard_swish(reading: _Reading, graph: ir.Graph) -> bool:
    x, scale, zero, knee = _knee_on_grid(reading, graph)
    if knee < 1 or zero - knee < reading.lowest:
        return False
    name = str(reading.node.name)
    low, high = zero - knee, zero + knee
    gate = x
    if low > reading.lowest or high < reading.highest:
        bounds = (np.array(max(low, reading.lowest), reading.dtype), np.array(min(high, reading.highest), reading.dtype))
        clip = ir.node(
            "Clip", [x, *(add_initializer(graph, f"{name}_{end}", bound) for end, bound in zip("lh", bounds, strict=True))]
        )
        gate = _named(clip, f"{name}_gate", reading.integer, x.shape)
        graph.insert_before(reading.node, clip)
    # The gate spans 2 · knee steps from 0 to 1, whatever the scale's rounding.
    read_gate = _dequantized(gate, 1 / (2 * knee), low, f"{name}_gate", reading, graph)
    read_x = _dequantized(x, scale, zero, f"{name}_x", reading, graph)
    product = ir.node("Mul", [read_x, read_gate], name=f"{name}_product")
    _take_place(reading.node, product, graph)
    return True


def _knee_on_grid(reading: _Reading, graph: ir.Graph) -> tuple[ir.Value, float, int, int]:
    """The quantized input with its scale and zero point, and how many steps there are from 0 to 3.

    Where nothing else reads the tensor, it is quantized anew, from −3 on and such that the steps come out even.
    """
    if not reading.alone:
        return reading.quantize.outputs[0], reading.scale, reading.zero, round(KNEE / reading.scale)
    highest = max(reading.scale * (reading.highest - reading.zero), 0.0)
    # A hair more, so that a scale which is 3 / knee already, but for float32's rounding, stays as it was trained.
    knee = min(STEPS, int(KNEE * STEPS / (highest + KNEE) + 1e-3))
    if knee < 1:
        return reading.quantize.outputs[0], reading.scale, reading.zero, 0
    scale, zero = KNEE / knee, reading.lowest + knee
    return _quantized_anew(reading, scale, zero, graph), scale, zero, knee


def _hard_sigmoid(reading: _Reading, graph: ir.Graph) -> bool:
    """The gate alone: the tensor is quantized over the sloped part only, and read again as 0 to 1."""
    alpha = reading.node.attributes.get_float("alpha", 0.2)
    beta = reading.node.attributes.get_float("beta", 0.5)
    readers = [use.node for quantized in reading.node.outputs[0].uses() for use in quantized.node.outputs[0].uses()]
    if any(reader.op_type != "DequantizeLinear" or reader.outputs[0].is_graph_output() for reader in readers):
        return False
    if not reading.alone or alpha <= 0 or not 0 <= beta <= 1:
        return False
    steps = next((steps for steps in GATE_STEPS if abs(steps * beta - round(steps * beta)) < 1e-4), STEPS)
    name = str(reading.node.name)
    gate = _quantized_anew(reading, 1 / (alpha * steps), reading.lowest + round(steps * beta), graph)
    if reading.lowest + steps < reading.highest:
        bounds = [np.array(bound, reading.dtype) for bound in (reading.lowest, reading.lowest + steps)]
        clip = ir.node(
            "Clip", [gate, *(add_initializer(graph, f"{name}_{end}", bound) for end, bound in zip("lh", bounds, strict=True))]
        )
        gate = _named(clip, f"{name}_gate", reading.integer, gate.shape)
        graph.insert_before(reading.node, clip)
    read = _dequantized(gate, 1 / steps, reading.lowest, f"{name}_gate", reading, graph)
    # What reads the activation's own quantized output reads the gate in its place: a second quantization would be float work.
    for reader in readers:
        reader.outputs[0].replace_all_uses_with(read)
    return True


def _gelu(reading: _Reading, graph: ir.Graph) -> bool:
    name = str(reading.node.name)
    x = reading.quantize.outputs[0]
    widened = _dequantized(x, reading.scale * GELU_FACTOR, reading.zero, f"{name}_widened", reading, graph)
    sigmoid = ir.node("Sigmoid", [widened], name=f"{name}_sigmoid")
    gate = _named(sigmoid, f"{name}_sigmoid", ir.DataType.FLOAT, x.shape)
    step = add_initializer(graph, f"{name}_gate_scale", np.array(1 / STEPS, np.float32))
    lowest = add_initializer(graph, f"{name}_gate_zero", np.array(reading.lowest, reading.dtype))
    quantize = ir.node("QuantizeLinear", [gate, step, lowest], name=f"{name}_gate_quantize")
    quantized = _named(quantize, f"{name}_gate_quantized", reading.integer, x.shape)
    dequantize = ir.node("DequantizeLinear", [quantized, step, lowest], name=f"{name}_gate_dequantize")
    read = _named(dequantize, f"{name}_gate_read", ir.DataType.FLOAT, x.shape)
    graph.insert_before(reading.node, [sigmoid, quantize, dequantize])
    read_x = _dequantized(x, reading.scale, reading.zero, f"{name}_x", reading, graph)
    _take_place(reading.node, ir.node("Mul", [read_x, read], name=f"{name}_product"), graph)
    return True


def _quantized_anew(reading: _Reading, scale: float, zero: int, graph: ir.Graph) -> ir.Value:
    name = str(reading.node.name)
    old = reading.quantize
    parameters = [
        add_initializer(graph, f"{name}_scale", np.array(scale, np.float32)),
        add_initializer(graph, f"{name}_zero", np.array(zero, reading.dtype)),
    ]
    node = ir.node("QuantizeLinear", [old.inputs[0], *parameters], name=f"{name}_quantize")
    value = _named(node, f"{name}_quantized", reading.integer, old.outputs[0].shape)
    graph.insert_before(reading.node, node)
    return value


def _dequantized(value: ir.Value, scale: float, zero: int, name: str, reading: _Reading, graph: ir.Graph) -> ir.Value:
    parameters = [
        add_initializer(graph, f"{name}_read_scale", np.array(scale, np.float32)),
        add_initializer(graph, f"{name}_read_zero", np.array(zero, reading.dtype)),
    ]
    node = ir.node("DequantizeLinear", [value, *parameters], name=f"{name}_dequantize")
    graph.insert_before(reading.node, node)
    return _named(node, f"{name}_dequantized", ir.DataType.FLOAT, value.shape)


def _named(node: ir.Node, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    value = node.outputs[0]
    value.name, value.dtype, value.shape = name, dtype, shape
    if node.name is None:
        node.name = name
    return value


def _take_place(old: ir.Node, new: ir.Node, graph: ir.Graph) -> None:
    """Puts a node where another one was, with the same output."""
    output, result = old.outputs[0], new.outputs[0]
    result.name, result.shape, result.type = output.name, output.shape, output.type
    output.name = None
    graph.insert_before(old, new)
    ir.convenience.replace_all_uses_with(output, result)
    graph.remove(old, safe=True)
