"""Let nodes that compute in float read what they read before it was rounded for the sake of others.

onnxruntime's quantizer puts Q and DQ nodes on a tensor, and every node that reads the tensor then reads the rounded one: a
transformer's residual sums, which read what the next products read, too, would carry their rounding through the whole network.
Where outputs are float the tensor itself is there to be read. all-MiniLM-L6-v2 with its weighted products in static u8s7: 18.4 dB
SQNR with this, 16.9 without.

Requires: a graph in Q/DQ form. Ensures: one that is no farther from float, since roundings are left out.
"""

from collections.abc import Collection

import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.rewiring import constant, producer_of

__all__ = ["read_before_rounding"]


def read_before_rounding(graph: Graph, placed: Collection[str]) -> Graph:
    """The graph with Q and DQ nodes for the placed nodes alone; the record counts the inputs that are float again.

    Args:
        graph: The quantized graph.
        placed: Names of the nodes that compute in integers.
    """
    placed = set(placed)

    def edit(model: ir.Model) -> str | None:
        changed = 0
        for node in model.graph:
            if node.name in placed or node.op_type == "QuantizeLinear":
                continue
            for index, value in enumerate(node.inputs):
                given = _before_rounding(value)
                if given is not None:
                    node.replace_input_with(index, given)
                    changed += 1
        if changed:
            common.RemoveUnusedNodesPass()(model)
        return f"{changed} inputs" if changed else None

    return graph.changed("read before rounding", edit)


def _before_rounding(value: ir.Value | None) -> ir.Value | None:
    """The float value that a DequantizeLinear gives back; ``None`` for anything else, and for weights."""
    dequantize = producer_of(value, "DequantizeLinear")
    quantize = producer_of(dequantize.inputs[0], "QuantizeLinear") if dequantize is not None else None
    given = quantize.inputs[0] if quantize is not None else None
    return given if given is not None and constant(given) is None else None
