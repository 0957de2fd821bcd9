"""Weights in blocks of 4 or 8 bits, for MatMul and Gemm: onnxruntime's `MatMulNBits`.

The packing is ours: ``(N, K / block, block · bits / 8)`` bytes for a weight of ``(K, N)``, as the operator's specification lays
them out (onnxruntime's docs/ContribOperators.md), rounded to nearest. A symmetric block's scale makes its largest entry the lowest
integer, which has one step more than the highest.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.schemes import WeightOnly
from edgekit_export.weights import Weight, weights

__all__ = ["Blocks", "in_blocks", "product_weights", "weights_in_blocks"]

DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Blocks:
    """A weight of ``(K, N)`` in blocks along K, padded there to whole blocks.

    Attributes:
        packed: uint8 ``(N, K / block, block · bits / 8)``; of two 4-bit integers the first is the lower half of a byte.
        scales: float32 ``(N, K / block)``.
        zero_points: uint8, packed as weights are, ``(N, ⌈K / block · bits / 8⌉)``; ``None`` where they are all in the middle.
    """

    packed: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray | None


def in_blocks(weight: np.ndarray, scheme: WeightOnly) -> Blocks:
    """A weight of ``(K, N)`` rounded to nearest, block by block."""
    middle, top = 1 << (scheme.bits - 1), (1 << scheme.bits) - 1
    rows, columns = weight.shape
    count = -(-rows // scheme.block)
    padded = np.zeros((columns, count * scheme.block), np.float32)
    padded[:, :rows] = weight.T
    blocks = padded.reshape(columns, count, scheme.block)
    if scheme.symmetric:
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)[..., 0]
        scales, points = largest / -middle, np.full((columns, count), middle, np.uint8)
    else:
        low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
        scales = (high - low) / top
        points = np.clip(np.rint(np.divide(-low, scales, out=np.zeros_like(low), where=scales != 0)), 0, top).astype(np.uint8)
    steps = scales[..., None]
    whole = np.divide(blocks, steps, out=np.zeros_like(blocks), where=steps != 0)
    integers = np.clip(np.rint(whole) + points[..., None], 0, top).astype(np.uint8)
    return Blocks(
        _packed(integers, scheme.bits), scales.astype(np.float32), None if scheme.symmetric else _packed(points, scheme.bits)
    )


def product_weights(graph: Graph) -> list[Weight]:
    """Weights of MatMul and Gemm that MatMulNBits takes: float matrices on the right, in the main graph."""
    fitting = {str(node.name) for node in graph.model.graph if node.op_type in ("MatMul", "Gemm") and _fits(node)}
    return [weight for weight in weights(graph) if weight.node in fitting]


def weights_in_blocks(graph: Graph, scheme: WeightOnly, names: Collection[str]) -> Graph:
    """The graph with MatMulNBits in place of some of its MatMul and Gemm; a Gemm's bias is added behind it.

    Args:
        graph: A graph in which no weight is used in two ways.
        scheme: Bits, blocks and what is computed in.
        names: Names of nodes of which `product_weights` tells.
    """

    def edit(model: ir.Model) -> str:
        stored: dict[tuple[str, bool, float], list[ir.Value]] = {}
        nodes = {str(node.name): node for node in model.graph}
        for name in names:
            _rewrite(model.graph, nodes[name], scheme, stored)
        for weight, _, _ in stored:
            if weight in model.graph.initializers and not model.graph.initializers[weight].uses():
                del model.graph.initializers[weight]
        model.opset_imports.setdefault(DOMAIN, 1)
        return f"{len(names)} products in blocks of {scheme.block}"

    return graph.changed(f"int{scheme.bits} weights", edit)


def _fits(node: ir.Node) -> bool:
    """Whether the right side is a constant matrix, and nothing is done to the left one."""
    right = node.inputs[1] if len(node.inputs) > 1 else None
    tensor = right.const_value if right is not None and right.is_initializer() else None
    return node.domain == "" and tensor is not None and len(tensor.shape) == 2 and not node.attributes.get_int("transA", 0)


def _rewrite(graph: ir.Graph, node: ir.Node, scheme: WeightOnly, stored: dict[tuple[str, bool, float], list[ir.Value]]) -> None:
    weight = node.inputs[1]
    assert weight is not None  # `_fits` looked
    assert weight.const_value is not None
    # Of a MatMul, which has none of these attributes, the defaults hold.
    turned, factor = bool(node.attributes.get_int("transB", 0)), node.attributes.get_float("alpha", 1.0)
    matrix = weight.const_value.numpy().T if turned else weight.const_value.numpy()
    key = (str(weight.name), turned, factor)
    if key not in stored:
        blocks = in_blocks(matrix * np.float32(factor), scheme)
        parts = {"blocks": blocks.packed, "scales": blocks.scales, "zero_points": blocks.zero_points}
        stored[key] = [add_initializer(graph, f"{weight.name}_{part}", array) for part, array in parts.items() if array is not None]
    attributes = {"K": matrix.shape[0], "N": matrix.shape[1], "bits": scheme.bits, "block_size": scheme.block}
    product = ir.node(
        "MatMulNBits",
        [node.inputs[0], *stored[key]],
        {**attributes, "accuracy_level": scheme.accuracy_level},
        domain=DOMAIN,
        name=node.name,
    )
    new, last = [product], product
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        share = node.attributes.get_float("beta", 1.0)
        product.outputs[0].name = f"{node.name}_product"
        product.outputs[0].dtype = ir.DataType.FLOAT
        if share != 1.0:
            factor_value = add_initializer(graph, f"{node.name}_beta", np.array(share, np.float32))
            scaled = ir.node("Mul", [bias, factor_value], name=f"{node.name}_share")
            scaled.outputs[0].name = f"{node.name}_scaled_bias"
            scaled.outputs[0].dtype = ir.DataType.FLOAT
            new, bias = [*new, scaled], scaled.outputs[0]
        last = ir.node("Add", [product.outputs[0], bias], name=f"{node.name}_bias")
        new.append(last)
    ir.convenience.replace_nodes_and_values(graph, node, [node], new, [node.outputs[0]], [last.outputs[0]])


def _packed(integers: np.ndarray, bits: int) -> np.ndarray:
    """uint8 of less than `bits` bits, along the last axis, two to a byte where they have 4."""
    if bits == 8:
        return integers
    if integers.shape[-1] % 2:
        integers = np.concatenate([integers, np.zeros((*integers.shape[:-1], 1), np.uint8)], axis=-1)
    return np.asarray(integers[..., 0::2] | (integers[..., 1::2] << 4), np.uint8)
