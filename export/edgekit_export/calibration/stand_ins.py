"""Which tensors need watching: many share the range of another one.

- What only moves values (Transpose, Reshape, …) has exactly the statistics of what it is given.
- A tensor that only a ReLU or Clip reads gets the statistics from behind it. onnxruntime's quantizer does the same where it
  quantizes the clamp (`BaseQuantizer.adjust_tensor_ranges`): the 8-bit type clamps by itself, and steps spent on values
  that are cut off right after are wasted. Where the clamp stays float, nothing is lost either: it cuts what lies
  outside in any case. It also lets onnxruntime run convolution and clamp as one kernel while we watch.
"""

import onnx_ir as ir

from edgekit_export.graph import Graph

__all__ = ["CLAMPS", "float_tensors", "stand_ins"]

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
CLAMPS = frozenset({"Relu", "Clip"})
MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def float_tensors(graph: Graph) -> list[str]:
    """Names of all float tensors between inputs and outputs, both included, in order; weights are not among them."""
    return [str(value.name) for value in _float_values(graph)]


def stand_ins(graph: Graph) -> dict[str, str]:
    """For each float tensor the tensor whose statistics it has, in order; most have their own."""
    values = _float_values(graph)
    names = {value.name for value in values}
    given = {value.name for value in graph.model.graph.inputs}
    nearest: dict[str, str] = {}
    for value in values:
        other = None if value.name in given else _other(value)
        nearest[str(value.name)] = str(other.name if other is not None and other.name in names else value.name)
    # No circle: what only a clamp reads is read by nothing that moves.
    found = {}
    for name in nearest:
        last = name
        while nearest[last] != last:
            last = nearest[last]
        found[name] = last
    return found


def _other(value: ir.Value) -> ir.Value | None:
    """The next tensor with the statistics of `value`."""
    uses = list(value.uses())
    if len(uses) == 1 and not value.is_graph_output() and _is(uses[0].node, CLAMPS) and uses[0].node.inputs[0] is value:
        # A clamp inside a branch may never run.
        return uses[0].node.outputs[0] if uses[0].node.graph is value.graph else None
    producer = value.producer()
    return producer.inputs[0] if producer is not None and _is(producer, MOVES) else None


def _is(node: ir.Node, operators: frozenset[str]) -> bool:
    return node.domain == "" and node.op_type in operators


def _float_values(graph: Graph) -> list[ir.Value]:
    values = [*graph.model.graph.inputs, *(value for node in graph.model.graph for value in node.outputs)]
    initializers = graph.model.graph.initializers
    return [
        value
        for value in values
        if value.name and value.name not in initializers and isinstance(value.type, ir.TensorType) and value.dtype in FLOATS
    ]
