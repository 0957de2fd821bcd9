"""Write activations that exporters spell out as the one operator that they are.

HardSigmoid is clip(x / 6 + 1/2, 0, 1) and Hardswish x · HardSigmoid(x) (Howard et al., *Searching for MobileNetV3*,
arXiv:1905.02244); GELU is x · (1 + erf(x / √2)) / 2 (Hendrycks and Gimpel, arXiv:1606.08415). As single nodes they are fused by
onnxruntime in float, and `integer_activations` finds them.

Requires: constants as initializers. Ensures: the same function up to float rounding.
"""

import math

import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.rewiring import constant

__all__ = ["canonical_activations"]

HARD_SWISH_OPSET = 14
GELU_OPSET = 20
SIXTH, HALF = 1 / 6, 0.5


def canonical_activations(graph: Graph) -> Graph:
    """The graph with HardSigmoid, HardSwish and Gelu as single nodes."""

    def edit(model: ir.Model) -> str | None:
        counts = {"HardSigmoid": 0, "HardSwish": 0, "Gelu": 0}
        for subject in list(model.graph):
            replaced = _rewritten(subject, model)
            if replaced is None:
                continue
            replaced.outputs[0].name = subject.outputs[0].name
            replaced.outputs[0].shape, replaced.outputs[0].type = subject.outputs[0].shape, subject.outputs[0].type
            subject.outputs[0].name = None
            model.graph.insert_before(subject, replaced)
            ir.convenience.replace_all_uses_with(subject.outputs[0], replaced.outputs[0], replace_graph_outputs=True)
            model.graph.remove(subject, safe=True)
            counts[replaced.op_type] += 1
        if not any(counts.values()):
            return None
        common.RemoveUnusedNodesPass()(model)
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    return graph.changed("canonical activations", edit)


def _rewritten(node: ir.Node, model: ir.Model) -> ir.Node | None:
    """The node to put in the place of `node`, where that ends a known pattern."""
    opset = model.opset_imports.get("", 0)
    if node.domain != "":
        return None
    if opset >= HARD_SWISH_OPSET and (x := _hard_swish(node)) is not None:
        return ir.node("HardSwish", [x])
    if (x := _hard_sigmoid(node)) is not None and node.op_type != "HardSigmoid":
        return ir.node("HardSigmoid", [x], {"alpha": SIXTH, "beta": HALF})
    if (x := _gelu(node)) is not None:
        if opset >= GELU_OPSET:
            return ir.node("Gelu", [x])
        model.opset_imports.setdefault("com.microsoft", 1)
        return ir.node("Gelu", [x], domain="com.microsoft")
    return None


def _hard_swish(node: ir.Node) -> ir.Value | None:
    """``x`` of x · HardSigmoid(x), or of x · clip(x + 3, 0, 6) / 6."""
    divided = _scaled(node, SIXTH)
    if divided is not None:
        for x, gate in _factors(divided):
            if _clip_of_shifted(gate) is x:
                return x
    for x, gate in _factors(node.outputs[0]):
        producer = gate.producer()
        if producer is not None and _hard_sigmoid(producer) is x:
            return x
    return None


def _hard_sigmoid(node: ir.Node) -> ir.Value | None:
    """``x`` of HardSigmoid(x) with its usual constants, however it is written."""
    if node.op_type == "HardSigmoid":
        alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", HALF)
        return node.inputs[0] if _near(alpha, SIXTH) and _near(beta, HALF) else None
    divided = _scaled(node, SIXTH)
    if divided is not None:
        return _clip_of_shifted(divided)
    if (inner := _clipped(node, 0.0, 1.0)) is not None and (scaled := _shifted(inner, HALF)) is not None:
        producer = scaled.producer()
        return _scaled(producer, SIXTH) if producer is not None else None
    return None


def _gelu(node: ir.Node) -> ir.Value | None:
    """``x`` of x · (1 + erf(x / √2)) / 2, in any order of its products."""
    factors = _product(node)
    if len(factors) != 3 or sum(_number(factor) is not None and _near(_number(factor), HALF) for factor in factors) != 1:
        return None
    rest = [factor for factor in factors if _number(factor) is None]
    for x, other in (rest, rest[::-1]):
        erf = _shifted(other, 1.0)
        producer = erf.producer() if erf is not None else None
        inner = producer.inputs[0].producer() if producer is not None and producer.op_type == "Erf" and producer.inputs[0] else None
        if inner is not None and _scaled(inner, math.sqrt(0.5)) is x:
            return x
    return None


def _clip_of_shifted(value: ir.Value) -> ir.Value | None:
    """``x`` of clip(x + 3, 0, 6)."""
    producer = value.producer()
    inner = _clipped(producer, 0.0, 6.0) if producer is not None else None
    return _shifted(inner, 3.0) if inner is not None else None


def _clipped(node: ir.Node, low: float, high: float) -> ir.Value | None:
    if node.op_type != "Clip" or len(node.inputs) < 3:
        return None
    bounds = _number(node.inputs[1]), _number(node.inputs[2])
    return node.inputs[0] if _near(bounds[0], low) and _near(bounds[1], high) else None


def _shifted(value: ir.Value, by: float) -> ir.Value | None:
    """``x`` of a value that is x + by."""
    producer = value.producer()
    if producer is None or producer.op_type != "Add":
        return None
    return next((x for x, other in _pairs(producer) if _near(_number(other), by)), None)


def _scaled(node: ir.Node, by: float) -> ir.Value | None:
    """``x`` of a node that computes x · by, as a product or as a quotient."""
    if node.op_type == "Div" and node.inputs[1] is not None and _number(node.inputs[1]):
        return node.inputs[0] if _near(1 / (_number(node.inputs[1]) or 1.0), by) else None
    if node.op_type == "Mul":
        return next((x for x, other in _pairs(node) if _near(_number(other), by)), None)
    return None


def _factors(value: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
    producer = value.producer()
    return _pairs(producer) if producer is not None and producer.op_type == "Mul" else []


def _product(node: ir.Node) -> list[ir.Value]:
    """The factors of a product of up to three."""
    if node.op_type != "Mul":
        return []
    factors: list[ir.Value] = []
    for value, _ in _pairs(node):
        producer = value.producer()
        inner = producer is not None and producer.op_type == "Mul" and len(value.uses()) == 1
        factors += [one for one, _ in _pairs(producer)] if producer is not None and inner else [value]
    return factors


def _pairs(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """Both inputs of a commutative node, in both orders."""
    one, other = node.inputs[0], node.inputs[1]
    return [(one, other), (other, one)] if one is not None and other is not None else []


def _number(value: ir.Value | None) -> float | None:
    """The number that a constant with a single element holds; nothing for anything else."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _near(value: float | None, wanted: float) -> bool:
    return value is not None and math.isclose(value, wanted, rel_tol=1e-5, abs_tol=1e-7)
