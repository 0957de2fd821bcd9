"""Float nodes between quantized ones: values leave integers, pass a few float operators, and are quantized again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgekit.inspection.quantization import is_integer_operator
from edgekit.inspection.wiring import Wiring, count_operators, label

if TYPE_CHECKING:
    import onnx

__all__ = ["FloatIsland", "find_float_islands", "island_nodes"]

LEAVES_INTEGERS = ("DequantizeLinear", "MatMulIntegerToFloat")
STOPS = frozenset({"Shape", "Size", "QuantizeLinear", "DequantizeLinear"})


class FloatIsland(msgspec.Struct, frozen=True):
    """Float nodes between quantized ones.

    Attributes:
        operators: What is in it, with counts.
        times: How many islands look like this.
        dequantize: Conversions into float, of all of them.
        quantize: Conversions back, of all of them.
        nodes: Names of the nodes of the first.
    """

    operators: dict[str, int]
    times: int
    dequantize: int
    quantize: int
    nodes: list[str]


def find_float_islands(wiring: Wiring) -> list[FloatIsland]:
    """The float islands of an optimized graph, those of one shape together, most conversions first."""
    members = {id(node): node for node in island_nodes(wiring)}
    kinds: dict[tuple[tuple[str, int], ...], list[FloatIsland]] = {}
    for nodes in _components(wiring, members):
        inputs = {name for node in nodes for name in node.input if name}
        outputs = {name for node in nodes for name in node.output if name}
        makers = {id(maker) for name in inputs if (maker := wiring.makers.get(name)) is not None and _leaves(maker)}
        takers = {id(taker) for name in outputs for taker in wiring.takers.get(name, []) if taker.op_type == "QuantizeLinear"}
        operators = count_operators(nodes)
        island = FloatIsland(operators, 1, len(makers), len(takers), [label(node) for node in nodes])
        kinds.setdefault(tuple(operators.items()), []).append(island)
    islands = [
        FloatIsland(
            group[0].operators,
            len(group),
            sum(island.dequantize for island in group),
            sum(island.quantize for island in group),
            group[0].nodes,
        )
        for group in kinds.values()
    ]
    return sorted(islands, key=lambda island: -island.dequantize - island.quantize)


def island_nodes(wiring: Wiring) -> list[onnx.NodeProto]:
    """The nodes of all float islands, in graph order."""
    after = _reach(wiring, [node for node in wiring.nodes if node.op_type in LEAVES_INTEGERS and _of_activation(wiring, node)])
    before = _reach(wiring, [node for node in wiring.nodes if node.op_type == "QuantizeLinear"], backwards=True)
    return [node for node in wiring.nodes if id(node) in after and id(node) in before]


def _leaves(node: onnx.NodeProto) -> bool:
    return node.op_type in LEAVES_INTEGERS


def _of_activation(wiring: Wiring, node: onnx.NodeProto) -> bool:
    return node.op_type != "DequantizeLinear" or wiring.stored_input(node, 0) is None


def _reach(wiring: Wiring, starts: list[onnx.NodeProto], backwards: bool = False) -> set[int]:
    """Float nodes that can be reached from `starts` without passing a conversion or an integer operator."""
    reached: set[int] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if backwards:
            # Only the first input of a QuantizeLinear is data; the others are its scale and zero point.
            names = node.input[:1] if node.op_type == "QuantizeLinear" else node.input
            neighbours = [wiring.makers[name] for name in names if name in wiring.makers]
        else:
            neighbours = [taker for name in node.output for taker in wiring.takers.get(name, [])]
        for neighbour in neighbours:
            if id(neighbour) not in reached and neighbour.op_type not in STOPS and not is_integer_operator(neighbour):
                reached.add(id(neighbour))
                waiting.append(neighbour)
    return reached


def _components(wiring: Wiring, members: dict[int, onnx.NodeProto]) -> list[list[onnx.NodeProto]]:
    """Members that hang together, each component in graph order."""
    component: dict[int, int] = {}
    for start in members:
        if start in component:
            continue
        waiting = [members[start]]
        while waiting:
            node = waiting.pop()
            if id(node) in component:
                continue
            component[id(node)] = start
            around = [wiring.makers[name] for name in node.input if name in wiring.makers]
            around += [taker for name in node.output for taker in wiring.takers.get(name, [])]
            waiting += [other for other in around if id(other) in members and id(other) not in component]
    groups: dict[int, list[onnx.NodeProto]] = {}
    for key, node in members.items():
        groups.setdefault(component[key], []).append(node)
    return list(groups.values())
