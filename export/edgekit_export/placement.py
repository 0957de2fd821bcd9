"""Choosing the nodes that compute in integers."""

import onnx_ir as ir

from edgekit_export.calibration.ranges import Ranges
from edgekit_export.graph import Graph
from edgekit_export.schemes import Placement

__all__ = ["CONVOLUTIONS", "PRODUCTS", "nodes_in", "place"]

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = frozenset({"Gemm", "MatMul"})
# Masks are minus the largest float: a scale that covers one leaves a single step for everything else.
LARGEST_RANGE = 1e6


def place(graph: Graph, placement: Placement, ranges: Ranges) -> list[str]:
    """Names of the nodes to quantize.

    Nodes whose inputs or outputs reach beyond a million (attention masks) stay float, except in ``everything``, which is
    what onnxruntime's defaults would do.
    """
    if placement == "everything":
        return [str(node.name) for node in graph.model.graph]
    exploded = set(ranges.exploded(LARGEST_RANGE))
    return [
        str(node.name)
        for node in nodes_in(graph, placement)
        if not exploded.intersection(str(value.name) for value in (*node.inputs, *node.outputs) if value is not None)
        and all(_known(value, ranges) for value in (*node.inputs[:2], *node.outputs))
    ]


def nodes_in(graph: Graph, placement: Placement) -> list[ir.Node]:
    """The nodes that a placement names, before ranges are looked at."""
    operators = CONVOLUTIONS if placement == "conv" else CONVOLUTIONS | PRODUCTS
    nodes = [node for node in graph.model.graph if node.op_type in operators and node.domain == ""]
    if placement == "weighted":
        return [
            node
            for node in nodes
            if node.op_type in CONVOLUTIONS or (node.inputs[1] is not None and node.inputs[1].is_initializer())
        ]
    return nodes


def _known(value: ir.Value | None, ranges: Ranges) -> bool:
    return value is None or value.is_initializer() or value.name in ranges.bounds
