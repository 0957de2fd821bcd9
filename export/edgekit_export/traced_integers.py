"""What a graph computes in integers as it came, such as one whose module was trained with fake quantization."""

import numpy as np
import onnx_ir as ir

from edgekit_export.graph import Graph
from edgekit_export.weights import weights

__all__ = ["kind_of", "may_saturate"]

# The largest 7-bit weight: two products with it, summed, fit 16 bits.
LARGEST_REDUCED = 64


def kind_of(graph: Graph) -> str:
    """``int8`` where all weights are integers, ``mixed`` where some are, ``float32`` where none is."""
    if not _integer_weights(graph):
        return "float32"
    return "mixed" if weights(graph) else "int8"


def may_saturate(graph: Graph) -> bool:
    """Whether the sums of integer products can leave 16 bits: signed weights that use all of their 8 bits."""
    found = (value.const_value for value in _integer_weights(graph))
    signed = [tensor.numpy() for tensor in found if tensor is not None and tensor.dtype == ir.DataType.INT8]
    return any(int(np.abs(array.astype(np.int16)).max(initial=0)) > LARGEST_REDUCED for array in signed)


def _integer_weights(graph: Graph) -> list[ir.Value]:
    """8-bit constants of more than one axis that are dequantized."""
    return [
        value
        for value in graph.model.graph.initializers.values()
        if value.dtype in (ir.DataType.INT8, ir.DataType.UINT8)
        and value.const_value is not None
        and len(value.const_value.shape) > 1
        and any(use.node.op_type == "DequantizeLinear" for use in value.uses())
    ]
