"""A graph as a cut takes it: blocks of nodes that stay together, and the values between them with their prices."""

from collections.abc import Collection, Iterable, Mapping
from math import inf, prod
from typing import TYPE_CHECKING

from edgekit.placing.cut import Block, Crossing
from edgekit.placing.prices import Prices
from edgekit.recipe import Arrays

if TYPE_CHECKING:
    from onnx_ir import Node, Value

    from edgekit_export import Graph

__all__ = ["blocks_of", "crossings_of", "join"]

# onnxruntime fuses them with the node before them, in float, in integers or in both; apart they have no time of their own.
FUSED_BEHIND = frozenset(
    {"Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Gelu", "Erf", "Swish", "Softplus"}
    | {"Mul", "Div", "Add", "Sub", "BatchNormalization", "Identity"}
)
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
IMAGE_RANK = 4


def join(graph: "Graph") -> dict[str, str]:
    """The block of each node, by name: a node, and the activations behind it that nothing else goes into.

    A block is called after its first node.
    """
    blocks: dict[str, str] = {}
    for node in graph.model.graph:
        made = {str(producer.name) for value in node.inputs if value is not None and (producer := value.producer()) is not None}
        before = {blocks[name] for name in made}
        fused = node.op_type in FUSED_BEHIND and len(before) == 1
        blocks[str(node.name)] = before.pop() if fused else str(node.name)
    return blocks


def blocks_of(
    joined: Mapping[str, str],
    placed: Collection[str],
    float_us: Mapping[str, float],
    integer_us: Mapping[str, float],
) -> dict[str, Block]:
    """The blocks with their times; one of whose nodes none is placed has no integer form.

    A block of which one of the two graphs shows no time was fused into a neighbour there, such as an addition into the convolution
    before it. Apart from that neighbour it would take some, so it is given the other graph's: it gains nothing by itself.

    Args:
        joined: The block of each node.
        placed: Nodes that the scheme would take.
        float_us: Time of each node in float; a node that is not there has none.
        integer_us: Its time in the integer graph.
    """
    members: dict[str, list[str]] = {}
    for node, block in joined.items():
        members.setdefault(block, []).append(node)
    blocks = {}
    for block, nodes in members.items():
        real, integer = (sum(times.get(node, 0.0) for node in nodes) for times in (float_us, integer_us))
        real, integer = real or integer, integer or real
        blocks[block] = Block(real, integer if any(node in placed for node in nodes) else inf)
    return blocks


def crossings_of(graph: "Graph", joined: Mapping[str, str], prices: Prices, example: Arrays) -> list[Crossing]:
    """The values between blocks, with what it costs to convert each.

    Args:
        graph: The prepared graph.
        joined: The block of each node.
        prices: Per element.
        example: Inputs, which tell how long free axes are.
    """
    axes = _axes(graph, example)
    outputs = {str(value.name) for value in graph.model.graph.outputs}
    return [
        crossing
        for value in _values(graph)
        if (crossing := _crossing(value, joined, prices, axes, leaves=str(value.name) in outputs)) is not None
    ]


def _values(graph: "Graph") -> "Iterable[Value]":
    stored = graph.model.graph.initializers
    yield from (value for value in graph.model.graph.inputs if value.name not in stored)
    for node in graph.model.graph:
        yield from node.outputs


def _crossing(
    value: "Value", joined: Mapping[str, str], prices: Prices, axes: Mapping[str, int], *, leaves: bool
) -> Crossing | None:
    producer = value.producer()
    maker = None if producer is None else joined[str(producer.name)]
    takers = dict.fromkeys(joined[str(use.node.name)] for use in value.uses() if str(use.node.name) in joined)
    takers.pop(maker or "", None)
    if not takers and not leaves:
        return None
    elements = _elements(value, axes)
    images = value.shape is not None and len(value.shape) == IMAGE_RANK and _by_convolution(value, producer)
    layout = prices.layout_ns * 2 if images else 0.0  # the integer side's layout is changed, and the float side's too
    return Crossing(
        maker,
        tuple(takers),
        elements * (prices.quantize_ns + layout) / 1e3,
        elements * (prices.dequantize_ns + layout) / 1e3,
        leaves,
    )


def _by_convolution(value: "Value", producer: "Node | None") -> bool:
    near = [use.node for use in value.uses()] + ([] if producer is None else [producer])
    return any(node.op_type in CONVOLUTIONS for node in near)


def _elements(value: "Value", axes: Mapping[str, int]) -> float:
    if value.shape is None:
        return 0.0  # of a value without a known shape no price can be told; the confirmation tells what it came to
    return float(prod(axis if isinstance(axis, int) else axes.get(str(axis.value), 1) for axis in value.shape))


def _axes(graph: "Graph", example: Arrays) -> dict[str, int]:
    """Lengths of free axes in the example, by name."""
    return {
        str(axis.value): size
        for value in graph.model.graph.inputs
        if value.shape is not None and value.name in example
        for axis, size in zip(value.shape, example[str(value.name)].shape, strict=True)
        if not isinstance(axis, int)
    }
