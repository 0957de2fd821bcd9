"""Write means over an image's height and width as GlobalAveragePool, which onnxruntime has an integer kernel for.

Exporters write both ``AdaptiveAvgPool2d(1)`` and ``x.mean((2, 3))`` as ReduceMean, which is float: in a squeeze-excite block that
costs a DequantizeLinear of the widest tensor.

Requires: ranks of tensors; constants as initializers. Ensures: the same function up to float rounding.
"""

import numpy as np
import onnx_ir as ir

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.rewiring import constant

__all__ = ["pooled_means"]

IMAGE_RANK = 4


def pooled_means(graph: Graph) -> Graph:
    """The graph with such means pooled."""

    def edit(model: ir.Model) -> str | None:
        found = [node for node in model.graph if _is_spatial_mean(node)]
        for node in found:
            _replace(node, model.graph)
        return f"{len(found)} ReduceMean became GlobalAveragePool" if found else None

    return graph.changed("pooled means", edit)


def _is_spatial_mean(node: ir.Node) -> bool:
    x = node.inputs[0] if node.inputs else None
    if node.op_type != "ReduceMean" or node.domain != "" or x is None or x.shape is None or len(x.shape) != IMAGE_RANK:
        return False
    axes = list(node.attributes.get_ints("axes", ()))
    if not axes and len(node.inputs) > 1 and (given := constant(node.inputs[1])) is not None:
        axes = [int(axis) for axis in given.ravel()]
    return sorted(axis % IMAGE_RANK for axis in axes) == [2, 3]


def _replace(node: ir.Node, graph: ir.Graph) -> None:
    output, x = node.outputs[0], node.inputs[0]
    assert x is not None  # by _is_spatial_mean
    pool = ir.node("GlobalAveragePool", [x], name=node.name)
    pooled = pool.outputs[0]
    pooled.type = output.type
    new = [pool]
    if not node.attributes.get_int("keepdims", 1):
        pooled.name = f"{output.name}_pooled"
        if x.shape is not None:
            pooled.shape = ir.Shape([x.shape[0], x.shape[1], 1, 1])
        squeeze = ir.node("Squeeze", [pooled, add_initializer(graph, f"{output.name}_axes", np.array([2, 3], np.int64))])
        new.append(squeeze)
    last = new[-1].outputs[0]
    last.name, last.shape, last.type = output.name, output.shape, output.type
    output.name = None
    graph.insert_before(node, new)
    ir.convenience.replace_all_uses_with(output, last, replace_graph_outputs=True)
    graph.remove(node, safe=True)
