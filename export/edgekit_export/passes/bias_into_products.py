"""Add the bias inside an integer product that gives floats, where onnxruntime's CPU provider has a kernel for both.

Between Q/DQ and a float output onnxruntime turns MatMul into MatMulIntegerToFloat, and leaves the sum with the bias behind it a
pass of its own over the result; the kernel takes a bias for nothing. Written as that operator from the start, it gets one.

Requires: a graph in Q/DQ form with a DequantizeLinear on both sides of the product. Ensures: the same function up to the order of
float sums; other products stay.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.rewiring import constant, only_user, producer_of

__all__ = ["bias_into_products"]

CONTRIB = "com.microsoft"


def bias_into_products(graph: Graph) -> Graph:
    """The graph with MatMulIntegerToFloat for MatMul and the Add of a constant behind it."""

    def edit(model: ir.Model) -> str | None:
        found = [pair for node in model.graph if (pair := _product_and_sum(node)) is not None]
        for product, total, bias in found:
            left, right = (value.producer() for value in product.inputs if value is not None)
            assert left is not None
            assert right is not None
            inputs = [left.inputs[0], right.inputs[0], left.inputs[1], right.inputs[1], left.inputs[2], right.inputs[2], bias]
            fused = ir.node("MatMulIntegerToFloat", inputs, domain=CONTRIB, name=product.name)
            ir.convenience.replace_nodes_and_values(
                model.graph, total, [product, total], [fused], [total.outputs[0]], [fused.outputs[0]]
            )
        if not found:
            return None
        model.opset_imports[CONTRIB] = 1
        common.RemoveUnusedNodesPass()(model)
        return f"{len(found)} biases"

    return graph.changed("bias into products", edit)


def _product_and_sum(node: ir.Node) -> tuple[ir.Node, ir.Node, ir.Value] | None:
    """A product of integers by a constant matrix, the sum behind it, and the constant vector that it adds."""
    if node.op_type != "MatMul" or node.domain != "":
        return None
    left, right = (producer_of(value, "DequantizeLinear") for value in node.inputs)
    user = only_user(node.outputs[0])
    if left is None or right is None or user is None or user[0].op_type != "Add" or user[0].domain != "":
        return None
    if len(left.inputs) < 3 or len(right.inputs) < 3 or producer_of(left.inputs[0], "QuantizeLinear") is None:
        return None
    weight, step = constant(right.inputs[0]), constant(left.inputs[1])
    bias = user[0].inputs[1 - user[1]]
    array = constant(bias)
    if weight is None or weight.ndim != 2 or step is None or step.size != 1 or array is None or bias is None:
        return None
    # One scale for the matrix, or one for each of its columns: what the kernel knows.
    by_column = right.attributes.get_int("axis", 1) in (1, -1)
    widths = {0 if (values := constant(value)) is None else values.size for value in right.inputs[1:3]}
    fits = array.dtype == np.float32 and array.shape == (weight.shape[1],) and widths <= {1, weight.shape[1]}
    return (node, user[0], bias) if fits and (by_column or widths == {1}) else None
