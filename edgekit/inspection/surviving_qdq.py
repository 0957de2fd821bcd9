"""The QuantizeLinear and DequantizeLinear nodes that onnxruntime could not fuse away, and what each is there for.

An integer kernel takes the place of an operator together with the DequantizeLinear nodes before it and the
QuantizeLinear after it. What is left after optimization therefore stands beside something that runs in float. A
DequantizeLinear is blocked by whatever takes its float output, a QuantizeLinear by whatever makes its float input;
nodes that only move values are looked through. At the model's own inputs and outputs they belong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgekit.inspection.wiring import MOVEMENT, Wiring, label

if TYPE_CHECKING:
    import onnx

__all__ = ["GRAPH_INPUT", "GRAPH_OUTPUT", "REQUANTIZATION", "Blocker", "SurvivingQdq", "blocked_by", "find_surviving_qdq"]

GRAPH_INPUT = "graph input"
GRAPH_OUTPUT = "graph output"
REQUANTIZATION = "requantization"

# Operators that onnxruntime's CPU provider has an integer kernel for, by what they are called in a float graph.
HAVE_INTEGER_KERNELS = frozenset(
    [
        "Add",
        "ArgMax",
        "AveragePool",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Gemm",
        "GlobalAveragePool",
        "LeakyRelu",
        "MatMul",
        "MaxPool",
        "Mul",
        "Resize",
        "Sigmoid",
        "Softmax",
        "Where",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
    ]
)


class Blocker(msgspec.Struct, frozen=True):
    """One operator that keeps Q/DQ alive.

    Attributes:
        operator: Its type, or ``graph input``, ``graph output``, ``requantization``.
        quantize: QuantizeLinear nodes that it keeps.
        dequantize: DequantizeLinear nodes that it keeps.
        nodes: Names of the blocking nodes.
        why: What that means.
    """

    operator: str
    quantize: int
    dequantize: int
    nodes: list[str]
    why: str


class SurvivingQdq(msgspec.Struct, frozen=True):
    """What is left of Q/DQ after optimization.

    Attributes:
        quantize: QuantizeLinear nodes left.
        dequantize: DequantizeLinear nodes left.
        inside: How many of both are blocked by an operator; the others stand at the model's inputs and outputs.
        blockers: A row for each operator, worst first. A node with several takers counts once for each operator.
    """

    quantize: int
    dequantize: int
    inside: int
    blockers: list[Blocker]


def find_surviving_qdq(wiring: Wiring) -> SurvivingQdq:
    """Lists the Q/DQ nodes of an optimized graph by what blocks them."""
    counts: dict[str, list[int]] = {}
    names: dict[str, dict[str, None]] = {}
    inside = 0
    left = {"QuantizeLinear": 0, "DequantizeLinear": 0}
    for node in wiring.nodes:
        if node.op_type not in left:
            continue
        left[node.op_type] += 1
        found = blocked_by(wiring, node)
        inside += any(operator not in (GRAPH_INPUT, GRAPH_OUTPUT) for operator, _ in found)
        for operator in dict.fromkeys(operator for operator, _ in found):
            counts.setdefault(operator, [0, 0])[node.op_type == "DequantizeLinear"] += 1
        for operator, name in found:
            names.setdefault(operator, {})[name] = None
    blockers = [
        Blocker(
            operator, quantize, dequantize, list(names[operator]), _why(operator, _float_feeders(wiring, operator, names[operator]))
        )
        for operator, (quantize, dequantize) in counts.items()
    ]
    blockers.sort(key=lambda row: (row.operator in (GRAPH_INPUT, GRAPH_OUTPUT), -row.quantize - row.dequantize, row.operator))
    return SurvivingQdq(left["QuantizeLinear"], left["DequantizeLinear"], inside, blockers)


def blocked_by(wiring: Wiring, node: onnx.NodeProto) -> list[tuple[str, str]]:
    """What keeps one QuantizeLinear or DequantizeLinear alive: types of operators, or what stands for one, with their names."""
    return _before(wiring, node) if node.op_type == "QuantizeLinear" else _after(wiring, node)


def _before(wiring: Wiring, node: onnx.NodeProto) -> list[tuple[str, str]]:
    """What makes the float value that a QuantizeLinear takes."""
    name = wiring.input_of(node, 0)
    nearest = wiring.makers.get(name)
    maker = nearest
    while maker is not None and maker.op_type in MOVEMENT and maker.input:
        name = maker.input[0]
        maker = wiring.makers.get(name)
    if maker is None:
        return [(GRAPH_INPUT, name)] if name in wiring.inputs else [("stored weight", name)]
    if maker.op_type == "DequantizeLinear":
        return (
            [(nearest.op_type, label(nearest))]
            if nearest is not None and nearest is not maker
            else [(REQUANTIZATION, label(maker))]
        )
    return [(maker.op_type, label(maker))]


def _after(wiring: Wiring, node: onnx.NodeProto) -> list[tuple[str, str]]:
    """What takes the float value that a DequantizeLinear makes."""
    found: dict[tuple[str, str], None] = {}
    waiting: list[tuple[str, onnx.NodeProto | None]] = [(node.output[0], None)]
    seen: set[str] = set()
    while waiting:
        name, nearest = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in wiring.outputs:
            found[(GRAPH_OUTPUT, name)] = None
        for taker in wiring.takers.get(name, []):
            through = nearest or taker
            if taker.op_type == "Concat" or (taker.op_type in MOVEMENT and taker.input[0] == name):
                waiting += [(output, through) for output in taker.output if output]
            elif taker.op_type == "QuantizeLinear":
                found[(REQUANTIZATION, label(node)) if nearest is None else (nearest.op_type, label(nearest))] = None
            else:
                found[(taker.op_type, label(taker))] = None
    return list(found) or [("nothing", label(node))]


def _float_feeders(wiring: Wiring, operator: str, names: dict[str, None]) -> list[str]:
    """Operators that give their float output to blocking nodes of one type."""
    feeders: dict[str, None] = {}
    for node in wiring.nodes:
        if node.op_type == operator and label(node) in names:
            makers = [wiring.makers[name] for name in node.input if name in wiring.makers]
            feeders.update(dict.fromkeys(maker.op_type for maker in makers if maker.op_type != "DequantizeLinear"))
    return list(feeders)


def _why(operator: str, feeders: list[str]) -> str:
    if operator == GRAPH_INPUT:
        return "the model takes float, so its input is quantized here: this one belongs"
    if operator == GRAPH_OUTPUT:
        return "the model gives float, so its output is dequantized here: this one belongs"
    if operator == REQUANTIZATION:
        return "two quantizations of one tensor with different scales meet; give both sides the same scale"
    if operator == "stored weight":
        return "a weight is stored in float and quantized at every run; store it as integers"
    if operator == "nothing":
        return "nothing takes its output"
    if operator in MOVEMENT:
        return f"{operator} moves integers as well as float, but its inputs and its output have different scales or types"
    if operator in HAVE_INTEGER_KERNELS and feeders:
        return f"{operator} has an integer kernel, but {', '.join(feeders)} before it is float: quantize both, or neither"
    if operator in HAVE_INTEGER_KERNELS:
        return (
            f"{operator} has an integer kernel, but its Q/DQ do not fit it: every input and its output must be quantized, "
            "to types that this processor's kernel takes"
        )
    return (
        f"{operator} has no integer kernel here, so it runs in float between conversions; rewrite it into operators that "
        "have one, or leave its neighbours in float too"
    )
