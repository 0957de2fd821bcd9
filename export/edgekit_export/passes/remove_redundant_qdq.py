"""Remove quantization from a quantized graph where nothing integer comes of it.

- A DequantizeLinear whose result is quantized again with the same parameters: the integers pass as they are. With other
  parameters both stay, since their rounding is part of the function; they are counted.
- Values that go to integers and back only to be moved (Transpose, Reshape, Gather, …) between float operators: no integer kernel
  ends or begins there, so that two conversions are paid for a rounding error.

Requires: a graph in Q/DQ form. Ensures: the same function where only equal pairs were removed, and elsewhere one that is no farther
from float, since roundings are left out.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.rewiring import constant, producer_of, take_place_of

__all__ = ["remove_redundant_qdq"]

# Kernels of onnxruntime's CPU provider that compute in integers between Q/DQ, or take integers in and give float.
INTEGER = frozenset(
    {
        *("Add", "ArgMax", "AveragePool", "Concat", "Conv", "ConvTranspose", "Gemm", "GlobalAveragePool"),
        *("LeakyRelu", "MatMul", "Mul", "Sigmoid", "Softmax", "Where"),
    }
)
# They hand values on as they are, or clamp them: whether integers pay there depends on what is before and behind.
MOVING = frozenset(
    {
        *("Clip", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Relu", "Reshape", "Resize"),
        *("Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)


def remove_redundant_qdq(graph: Graph) -> Graph:
    """The graph without redundant QuantizeLinear and DequantizeLinear; the record counts them by kind."""

    def edit(model: ir.Model) -> str | None:
        counts: Counter[str] = Counter()
        for node in list(model.graph):
            again = producer_of(node.inputs[0], "DequantizeLinear") if node.op_type == "QuantizeLinear" else None
            if again is None or constant(again.inputs[0]) is not None:
                continue
            if _parameters(node) is not None and _parameters(node) == _parameters(again) and again.inputs[0] is not None:
                node.outputs[0].replace_all_uses_with(again.inputs[0])
                counts["equal"] += 1
            else:
                counts["other"] += 1
        for quantizers in _unused_islands(model.graph):
            for node in quantizers:
                for back in [use.node for use in node.outputs[0].uses()]:
                    _bypass(back, node)
            counts["moving"] += len(quantizers)
        common.RemoveUnusedNodesPass()(model)
        if not counts["equal"] and not counts["moving"]:
            return None
        return (
            f"{counts['equal']} equal pairs, {counts['moving']} around data that is only moved; "
            f"{counts['other']} requantizations left"
        )

    return graph.changed("remove redundant Q/DQ", edit)


def _parameters(node: ir.Node) -> tuple[object, ...] | None:
    """Scale, zero point, its type and the axis of a Q or DQ; ``None`` where they are computed."""
    scale = constant(node.inputs[1])
    if scale is None:
        return None
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros_like(scale, np.uint8)
    if zero is None:
        return None
    axis = node.attributes.get_int("axis", 1) if scale.size > 1 else None
    return scale.tobytes(), zero.tobytes(), zero.dtype.str, axis, node.attributes.get_int("block_size", 0)


def _unused_islands(graph: ir.Graph) -> Iterator[list[ir.Node]]:
    """Groups of QuantizeLinear, joined by data movement between them, that no integer kernel writes or reads."""
    quantizers = [node for node in graph if node.op_type == "QuantizeLinear" and constant(node.inputs[0]) is None]
    group = {node: index for index, node in enumerate(quantizers)}
    used: set[ir.Node] = set()
    for node in quantizers:
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        while before is not None and before.op_type in MOVING and before.inputs[0] is not None:
            before = before.inputs[0].producer()
        if before is not None and before.op_type == "DequantizeLinear":
            earlier = producer_of(before.inputs[0], "QuantizeLinear")
            if earlier is None:
                used.add(node)  # integers that come from elsewhere, such as an input of the graph
            else:
                _join(group, node, earlier)
        elif before is not None and before.op_type in INTEGER and any(_from_integers(value) for value in before.inputs):
            used.add(node)
        if not _only_moved(node):
            used.add(node)
    taken = {group[node] for node in used}
    for index in sorted(set(group.values()) - taken):
        yield [node for node in quantizers if group[node] == index]


def _only_moved(node: ir.Node) -> bool:
    """Whether a quantized value only goes back to float, and there to no operator with an integer kernel."""
    uses = list(node.outputs[0].uses())
    if node.outputs[0].is_graph_output() or any(use.node.op_type != "DequantizeLinear" for use in uses):
        return False
    return not any(_read_in_integers(use.node.outputs[0]) for use in uses)


def _read_in_integers(value: ir.Value) -> bool:
    """Whether an operator with an integer kernel is behind a value, at once or behind operators that integers pass."""
    users = [use.node for use in value.uses()]
    return any(
        user.op_type in INTEGER or (user.op_type in MOVING and any(_read_in_integers(output) for output in user.outputs))
        for user in users
    )


def _from_integers(value: ir.Value | None) -> bool:
    """Whether a value is an activation that was in integers before; constants do not count."""
    back = producer_of(value, "DequantizeLinear")
    return back is not None and constant(back.inputs[0]) is None


def _join(group: dict[ir.Node, int], node: ir.Node, other: ir.Node) -> None:
    old, new = group[node], group[other]
    group.update({member: new for member, index in group.items() if index == old})


def _bypass(back: ir.Node, node: ir.Node) -> None:
    """Hands the value before a QuantizeLinear to those behind its DequantizeLinear."""
    value = node.inputs[0]
    if value is None:
        return
    if back.outputs[0].is_graph_output():
        keep = ir.node("Identity", [value])
        if back.graph is None:
            raise ValueError(f"{back.name} belongs to no graph")
        back.graph.insert_before(back, keep)
        take_place_of(back.outputs[0], keep.outputs[0])
    else:
        back.outputs[0].replace_all_uses_with(value)
