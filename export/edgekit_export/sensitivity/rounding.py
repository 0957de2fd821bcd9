"""What a scheme rounds: read off the graph that onnxruntime's quantizer made, by each node's inputs.

Reading the quantizer's own result, and not computing scales anew, is what makes a switchable graph agree with it: whatever the
quantizer does (ranges shared through pooling, weights widened for their bias, clamps removed) is in there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgekit_export.embeddings import integer_tables
from edgekit_export.graph import Graph
from edgekit_export.rewrites import OPERATORS, integer_activations
from edgekit_runtime.errors import QuantizationError

__all__ = ["Pair", "Rounding", "round_activations", "round_tables", "rounding_of"]

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Pair:
    """A QuantizeLinear and its DequantizeLinear.

    Attributes:
        scale: Of one value, or one a channel.
        zero_point: Of the same shape; its dtype is the integer's.
        axis: The channel axis.
        domain: Of the operators: 16-bit ones were onnxruntime's own before ONNX had them.
    """

    scale: ir.TensorProtocol
    zero_point: ir.TensorProtocol
    axis: int
    domain: str


@dataclass
class Rounding:
    """What becomes of each node's inputs and of each graph output.

    Attributes:
        tensors: The pairs that an activation passes through, by its name in the float graph; more than one where its type changes.
        readers: Inputs that read the rounded tensor, as (node's name, index of the input).
        outputs: Names of the graph outputs that are rounded.
        constants: The rounded value of a constant input, float32, by (node's name, index of the input).
        nodes: The quantizer's nodes by name; their attributes may differ from the float graph's.
        tables: Names of Gather nodes that read an embedding table in 8 bits; what they give is not rounded once more.
    """

    tensors: dict[str, tuple[Pair, ...]] = field(default_factory=dict)
    readers: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)
    constants: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    nodes: Mapping[str, ir.Node] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)


def rounding_of(graph: Graph, quantized: Graph) -> Rounding:
    """Compares a quantized graph with the float graph that it was made from.

    Args:
        graph: The float graph; its nodes have names.
        quantized: What onnxruntime's quantizer made of it: the same nodes with Q/DQ pairs between them, less removed clamps.

    Raises:
        QuantizationError: The quantized graph has other nodes.
    """
    floats = {str(node.name): node for node in graph.model.graph}
    nodes = {
        str(node.name): node for node in quantized.model.graph if node.op_type not in (QUANTIZE, DEQUANTIZE) or node.name in floats
    }
    strange = [node for name, node in nodes.items() if name not in floats or floats[name].op_type != node.op_type]
    if strange:
        raise QuantizationError(
            f"sensitivity: the quantized graph has a {strange[0].op_type} {strange[0].name!r} that the float graph does not have; "
            "give the float graph with the scheme's rewrites done"
        )
    found = Rounding(nodes=nodes)
    for name, node in nodes.items():
        for index, (plain, value) in enumerate(zip(floats[name].inputs, node.inputs, strict=False)):
            if plain is None or value is None or not _dequantized(value):
                continue
            pairs, raw = _unwound(value)
            if raw is None:
                found.constants[name, index] = _constant(value.producer())
            elif pairs:
                found.tensors.setdefault(str(plain.name), pairs)
                found.readers.setdefault(str(plain.name), []).append((name, index))
    for plain, value in zip(graph.model.graph.outputs, quantized.model.graph.outputs, strict=True):
        pairs, raw = _unwound(value)
        if pairs and raw is not None:
            found.tensors.setdefault(str(plain.name), pairs)
            found.outputs.add(str(plain.name))
    return found


def round_activations(graph: Graph, quantized: Graph, rounding: Rounding) -> None:
    """Takes over what `integer_activations` does to the inputs of activations.

    It quantizes what a HardSwish or HardSigmoid alone reads from that function's knee on, in finer steps; what is clipped there
    makes no difference to the function, in float either. A HardSigmoid's output is that tensor read again, and not rounded
    once more. The product in HardSwish and GELU's sigmoid are taken as exact.
    """
    after = {str(node.name): node for node in integer_activations(quantized).model.graph}
    for node in graph.model.graph:
        name, value = str(node.name), node.inputs[0] if node.inputs else None
        anew = after.get(f"{name}_quantize")
        if node.op_type not in OPERATORS or anew is None or value is None or len(rounding.tensors.get(str(value.name), ())) != 1:
            continue
        rounding.tensors[str(value.name)] = (Pair(_tensor(anew, 1), _tensor(anew, 2), 1, anew.domain),)
        if node.op_type == "HardSigmoid":
            rounding.tensors.pop(str(node.outputs[0].name), None)
            rounding.readers.pop(str(node.outputs[0].name), None)


def round_tables(graph: Graph, rounding: Rounding) -> None:
    """Adds the embedding tables that schemes store in 8 bits to what is rounded, unless the quantizer has them already."""
    before = {str(node.name): node for node in graph.model.graph}
    after = {str(node.name): node for node in integer_tables(graph).graph.model.graph}
    for name, node in before.items():
        scale = after.get(f"{name}_scale")
        if node.op_type != "Gather" or scale is None or f"{name}_scale" in before or (name, 0) in rounding.constants:
            continue
        rows, steps = _tensor(after[name], 0).numpy(), _tensor(scale, 0).numpy()
        rounding.constants[name, 0] = (rows.astype(np.float32) * steps).astype(np.float32)
        rounding.tables.add(name)


def _dequantized(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == DEQUANTIZE


def _unwound(value: ir.Value) -> tuple[tuple[Pair, ...], ir.Value | None]:
    """The pairs between a value and the float value behind them, first one first; no value where that is a constant."""
    pairs: list[Pair] = []
    while _dequantized(value):
        dequantize = value.producer()
        stored = dequantize.inputs[0] if dequantize is not None else None
        quantize = stored.producer() if stored is not None else None
        if dequantize is None or stored is None or quantize is None or quantize.op_type != QUANTIZE:
            return tuple(pairs), None if stored is not None and stored.is_initializer() else value
        scale, zero_point = _tensor(dequantize, 1), _tensor(dequantize, 2)
        pairs.insert(0, Pair(scale, zero_point, dequantize.attributes.get_int("axis", 1), dequantize.domain))
        assert quantize.inputs[0] is not None
        value = quantize.inputs[0]
    return tuple(pairs), value


def _tensor(node: ir.Node, index: int) -> ir.TensorProtocol:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.const_value is None:
        raise QuantizationError(f"sensitivity: {node.op_type} {node.name!r} has no constant scale and zero point")
    return value.const_value


def _constant(node: ir.Node | None) -> np.ndarray:
    """What a DequantizeLinear of a constant gives, as in the operator's specification, float32."""
    assert node is not None
    stored = _tensor(node, 0).numpy()
    scale = np.asarray(_tensor(node, 1).numpy(), np.float32)
    zero_point = _tensor(node, 2).numpy() if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros((), np.int32)
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    # int32 biases have no zero point to speak of; narrower types lose nothing in int64.
    steps = stored.astype(np.int64) - _along(np.asarray(zero_point).astype(np.int64), stored.shape, axis, block)
    result: np.ndarray = steps.astype(np.float32) * _along(scale, stored.shape, axis, block)
    return result


def _along(values: np.ndarray, shape: Sequence[int], axis: int, block: int) -> np.ndarray:
    """Scales or zero points in a shape that broadcasts to the tensor's: one, one a channel, or one a block of channels."""
    if values.size == 1:
        return values.reshape(())
    axis %= len(shape)
    if block:
        return np.repeat(values, block, axis)[tuple(slice(size) for size in shape)]
    return values.reshape([-1 if index == axis else 1 for index in range(len(shape))])
