"""What is worth knowing about a model, each under a name: what it is, what it costs and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from edgekit.inspection.optimized_graph import OptimizedGraph
from edgekit.inspection.quantization import QuantizationFound
from edgekit.inspection.weights import FLOAT, StoredTensor, Weights
from edgekit.inspection.wiring import MOVEMENT, Wiring, label

if TYPE_CHECKING:
    import onnx

__all__ = ["Note", "note_graph", "note_optimized"]

WORTH_BYTES = 1024
WORTH_SHARE = 0.01
PER_CHANNEL_OPSET = 13

# Operators whose weights are most of a model, and what becomes of them when a model is quantized.
HEAVY = {
    "LSTM": "static quantization leaves LSTM in float; dynamic int8 quantizes it",
    "GRU": "onnxruntime has no integer GRU; it stays in float in every scheme",
    "RNN": "onnxruntime has no integer RNN; it stays in float in every scheme",
    "Gemm": "it was left out on purpose, or the quantizer could not see its weights",
    "MatMul": "it was left out on purpose, or the quantizer could not see its weights",
    "Conv": "it was left out on purpose, or the quantizer could not see its weights",
    "ConvTranspose": "it was left out on purpose, or the quantizer could not see its weights",
    "Gather": "an embedding table: quantize it for size, it costs no time",
    "Einsum": "no quantizer takes Einsum; write it as MatMul",
}
SIGMOIDS = {"HardSigmoid", "HardSwish", "Sigmoid", "QuickGelu", "Erf", "Gelu", "FastGelu", "BiasGelu"}


class Note(msgspec.Struct, frozen=True):
    """One thing worth knowing.

    Attributes:
        name: A fixed name, such as ``lstm-weights-in-float``.
        severity: ``info``, ``warning`` (it costs accuracy, time or size) or ``problem`` (it does not run).
        message: What, why, and what to do.
    """

    name: str
    severity: Literal["info", "warning", "problem"]
    message: str


def note_graph(wiring: Wiring, weights: Weights, found: QuantizationFound, opset: int) -> list[Note]:
    """Notes on a model as it is stored."""
    notes = []
    if weights.in_constant_nodes.size_bytes >= WORTH_BYTES:
        held = weights.in_constant_nodes
        notes.append(
            Note(
                "weights-in-constant-nodes",
                "warning",
                f"{_bytes(held.size_bytes)} of weights in {held.tensors} Constant nodes: dynamic quantization overlooks them "
                "without a word; turn them into initializers first",
            )
        )
    if found.any:
        notes += _float_weights(wiring, weights, found)
    slow = [node for node in wiring.nodes if node.op_type == "ConvInteger"]
    if slow:
        notes.append(
            Note(
                "conv-integer",
                "warning",
                f"{_nodes('ConvInteger', slow)}: dynamically quantized convolution is about ten times slower than float, and "
                "some builds lack it; quantize convolutions statically, or keep them in float",
            )
        )
    if 0 < opset < PER_CHANNEL_OPSET:
        axes = [node for node in wiring.nodes if node.op_type == "DequantizeLinear" and _has_axis(node)]
        if axes:
            notes.append(
                Note(
                    "per-channel-below-opset-13",
                    "problem",
                    f"{_nodes('DequantizeLinear', axes)} per channel in opset {opset}, which has no axis attribute: the model is "
                    "invalid; convert the float model to opset 13 or later, then quantize it again",
                )
            )
    return notes


def note_optimized(optimized: OptimizedGraph, found: QuantizationFound) -> list[Note]:
    """Notes on what onnxruntime makes of a model here."""
    notes = []
    if optimized.fallback_reason:
        notes.append(
            Note("other-provider", "info", f"{optimized.fallback_reason}; the optimized graph is that of {optimized.provider}")
        )
    survivors = optimized.surviving
    if survivors.inside and "qdq" in found.kinds:
        worst = [row.operator for row in survivors.blockers if row.operator not in ("graph input", "graph output")]
        notes.append(
            Note(
                "surviving-qdq",
                "warning",
                f"{survivors.inside} Q/DQ survive optimization inside the model, kept by {', '.join(worst[:5])}: every one is a "
                "pass over memory that int8 has to win back; see the table",
            )
        )
    for island in optimized.islands:
        if SIGMOIDS.intersection(name.rsplit(".", 1)[-1] for name in island.operators):
            what = " + ".join(f"{count} {name}" if count > 1 else name for name, count in island.operators.items())
            notes.append(
                Note(
                    "float-activation-island",
                    "warning",
                    f"{island.times} float island(s) of {what} between integer nodes, such as {island.nodes[0]}: the activation's "
                    f"round trip takes {island.dequantize + island.quantize} conversions; rewrite it into integer Add and Mul, "
                    "or leave its convolution in float",
                )
            )
    return notes


def _float_weights(wiring: Wiring, weights: Weights, found: QuantizationFound) -> list[Note]:
    """Weights that an otherwise quantized model keeps in float, by the operator that uses them."""
    kept: dict[str, dict[str, StoredTensor]] = {}
    users: dict[str, dict[str, onnx.NodeProto]] = {}
    through: dict[str, set[str]] = {}
    at_load: list[StoredTensor] = []
    for tensor in wiring.stored.values():
        if tensor.dtype not in FLOAT or len(tensor.shape) < 2 or tensor.size_bytes < WORTH_BYTES:
            continue
        for user, path in _users(wiring, tensor.name):
            if user.op_type == "QuantizeLinear":
                at_load.append(tensor)
            elif user.op_type in HEAVY:
                kept.setdefault(user.op_type, {})[tensor.name] = tensor
                users.setdefault(user.op_type, {})[label(user)] = user
                through.setdefault(user.op_type, set()).update(path)
    notes = []
    for operator, tensors in kept.items():
        size_bytes = sum(tensor.size_bytes for tensor in tensors.values())
        if size_bytes < WORTH_SHARE * weights.size_bytes:
            continue
        detour = sorted(through[operator])
        hidden = f" (they reach it through {', '.join(detour)}: fold constants first)" if detour else ""
        by_design = operator == "Conv" and found.kinds == ["dynamic"]
        advice = "dynamic int8 keeps convolutions in float, where they are faster" if by_design else HEAVY[operator]
        notes.append(
            Note(
                f"{operator.lower()}-weights-in-float",
                "info" if by_design else "warning",
                f"{_nodes(operator, list(users[operator].values()))}: {_bytes(size_bytes)} of weights left in float in a "
                f"quantized model{hidden}; {advice}",
            )
        )
    if at_load:
        size_bytes = sum(tensor.size_bytes for tensor in at_load)
        notes.append(
            Note(
                "weights-quantized-at-load",
                "warning",
                f"{_bytes(size_bytes)} of weights are stored in float and quantized while loading: the file is larger than it "
                "needs to be; store them as integers",
            )
        )
    return notes


def _users(wiring: Wiring, name: str) -> list[tuple[onnx.NodeProto, set[str]]]:
    """Nodes that compute with a stored tensor, each with the operators that only moved it on the way."""
    found: list[tuple[onnx.NodeProto, set[str]]] = []
    waiting: list[tuple[str, set[str]]] = [(name, set())]
    seen: set[str] = set()
    while waiting:
        value, path = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        for node in wiring.takers.get(value, []):
            lookup = node.op_type == "Gather" and wiring.stored_input(node, 1) is None
            if node.op_type in MOVEMENT and not lookup:
                waiting += [(output, path | {node.op_type}) for output in node.output if output]
            else:
                found.append((node, path))
    return found


def _has_axis(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "axis" for attribute in node.attribute)


def _nodes(operator: str, nodes: list[onnx.NodeProto]) -> str:
    names = ", ".join(label(node) for node in nodes[:3])
    return f"{len(nodes)} {operator} ({names}{', …' if len(nodes) > 3 else ''})"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
