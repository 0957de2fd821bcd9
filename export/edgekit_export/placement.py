"""Choosing the nodes that compute in integers."""

import onnx_ir as ir

from edgekit_export.calibration.ranges import Ranges
from edgekit_export.graph import Graph
from edgekit_export.schemes import Outputs, Placement

__all__ = ["CONVOLUTIONS", "PRODUCTS", "READERS", "is_depthwise", "nodes_in", "place"]

# What may stand between two convolutions without leaving integers.
CHAIN = frozenset(
    {"Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Add", "Mul", "Concat", "Split", "Slice", "Pad", "Resize"}
    | {"MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
)

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = frozenset({"Gemm", "MatMul"})
CLAMPS = frozenset({"Relu", "Clip"})
# Those that gain from reading integers though they give floats; all others would only be rounded before and after.
READERS = CONVOLUTIONS | PRODUCTS | {"Add"}
# Masks are minus the largest float: a scale that covers one leaves a single step for everything else.
LARGEST_RANGE = 1e6


def place(graph: Graph, placement: Placement, ranges: Ranges, *, outputs: Outputs = "integer") -> list[str]:
    """Names of the nodes to quantize.

    Nodes whose inputs or outputs reach beyond a million (attention masks) stay float, except in ``everything``, which is
    what onnxruntime's defaults would do.
    """
    if placement == "everything":
        return [str(node.name) for node in graph.model.graph if outputs == "integer" or node.op_type in READERS]
    exploded = set(ranges.exploded(LARGEST_RANGE))
    chosen = [
        node
        for node in nodes_in(graph, placement)
        if not exploded.intersection(str(value.name) for value in (*node.inputs, *node.outputs) if value is not None)
        and all(_known(value, ranges) for value in (*node.inputs[:2], *node.outputs))
    ]
    if outputs == "float":
        return [str(node.name) for node in chosen if node.op_type in READERS]
    clamps = [node for node in _clamps_after(chosen) if node not in chosen]
    return [str(node.name) for node in (*chosen, *clamps)]


def nodes_in(graph: Graph, placement: Placement) -> list[ir.Node]:
    """The nodes that a placement names, before ranges are looked at."""
    if placement == "convnet":
        return _between_convolutions(graph)
    operators = CONVOLUTIONS if placement == "conv" else CONVOLUTIONS | PRODUCTS
    nodes = [node for node in graph.model.graph if node.op_type in operators and node.domain == ""]
    if placement == "weighted":
        return [
            node
            for node in nodes
            if node.op_type in CONVOLUTIONS or (node.inputs[1] is not None and node.inputs[1].is_initializer())
        ]
    return nodes


def is_depthwise(node: ir.Node) -> bool:
    """Whether a convolution has one input channel a group."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    groups = node.attributes.get_int("group", 1)
    return groups > 1 and weight is not None and weight.shape is not None and weight.shape[1] == 1


def _between_convolutions(graph: Graph) -> list[ir.Node]:
    """Convolutions, what lies on the way from one to the next, and products with a constant weight at the end of such ways.

    A node that reads anything else which is computed in float would need that quantized for its sake, and stays float.
    """
    reached: list[ir.Node] = []
    inside: set[ir.Node] = set()
    for node in graph.model.graph:
        computed = [producer for value in node.inputs if value is not None and (producer := value.producer()) is not None]
        fed = bool(computed) and all(producer in inside for producer in computed)
        product = (
            node.op_type in PRODUCTS and len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].is_initializer()
        )
        if node.domain == "" and (node.op_type in CONVOLUTIONS or (fed and (node.op_type in CHAIN or product))):
            reached.append(node)
            inside.add(node)
    # From the end: a chain that leads to no further weight only moves the border between integers and float.
    useful: set[ir.Node] = set()
    for node in reversed(reached):
        if node.op_type in CONVOLUTIONS | PRODUCTS or any(use.node in useful for value in node.outputs for use in value.uses()):
            useful.add(node)
    return [node for node in reached if node in useful]


def _clamps_after(nodes: list[ir.Node]) -> list[ir.Node]:
    """ReLU and Clip right behind placed nodes: the range behind them is what counts, and quantization itself then clamps."""
    behind = []
    for node in nodes:
        uses = list(node.outputs[0].uses())
        if len(uses) == 1 and not node.outputs[0].is_graph_output() and uses[0].node.op_type in CLAMPS:
            behind.append(uses[0].node)
    return behind


def _known(value: ir.Value | None, ranges: Ranges) -> bool:
    return value is None or value.is_initializer() or value.name in ranges.bounds
