"""Groups: nodes that are quantized together or not at all, and the tensors that a choice of nodes rounds."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir
from onnxruntime.quantization.operators.activation import QDQRemovableActivation
from onnxruntime.quantization.operators.direct_q8 import QDQDirect8BitOp
from onnxruntime.quantization.operators.gather import QDQGather
from onnxruntime.quantization.operators.where import QDQWhere
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from edgekit_export.graph import Graph
from edgekit_export.placement import CLAMPS
from edgekit_export.rewrites import OPERATORS
from edgekit_export.sensitivity.rounding import Rounding

__all__ = ["Group", "groups_of", "rounded_by"]

Kind = Literal["node", "shared"]

# Operators that onnxruntime's quantizer takes only behind something quantized: they hand its scale on, or clamp.
FOLLOWERS = frozenset(
    name
    for name, quantizer in QDQRegistry.items()
    if issubclass(quantizer, (QDQDirect8BitOp, QDQRemovableActivation, QDQGather, QDQWhere))
)
# What joins the node before it where it computes on nothing else: activations, their products (SiLU), scales and biases.
ELEMENTWISE = frozenset({"Add", "LeakyRelu", "Mul", "Sigmoid", *OPERATORS})
KNOWN = frozenset({*QLinearOpsRegistry, *QDQRegistry, *OPERATORS})


@dataclass(frozen=True)
class Group:
    """Nodes that are quantized, or spared, together.

    Attributes:
        name: The first node's name; for ``shared`` the tensor's.
        kind: ``node``: a node with what goes with it: clamps, activations and biases behind it, and what only hands its tensor on.
            ``shared``: all that writes or reads one tensor, such as the branches behind a residual add; only together do they
            leave it float.
        nodes: Names, in the graph's order.
        operators: Their operators, in the same order.
        weight_bytes: Size of their weights in float32.
    """

    name: str
    kind: Kind
    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    weight_bytes: int


def groups_of(graph: Graph, placed: Collection[str], rounding: Rounding) -> list[Group]:
    """The groups of a graph: of kind ``node`` each placed node is in exactly one, of kind ``shared`` in any number.

    Args:
        graph: The float graph.
        placed: Names of the nodes that the scheme places.
        rounding: What the scheme rounds.
    """
    nodes = {str(node.name): node for node in graph.model.graph if node.name in set(placed) and node.op_type in KNOWN}
    heads: dict[str, str] = {}
    for name, node in nodes.items():
        heads[name] = _head_before(node, heads) or name
    members: dict[str, list[str]] = {}
    for name, head in heads.items():
        members.setdefault(head, []).append(name)
    single = [_group(head, "node", names, nodes, rounding) for head, names in members.items()]
    # Nodes that round nothing (shape arithmetic of a placement that names everything) are no one's concern.
    single = [group for group in single if rounded_by(graph, rounding, group.nodes) or _has_constants(group.nodes, rounding)]
    return [*single, *_shared(graph, single, nodes, rounding)]


def rounded_by(graph: Graph, rounding: Rounding, names: Collection[str]) -> set[str]:
    """The tensors that are rounded where just the nodes `names` are quantized.

    A tensor is rounded for all its readers as soon as one node that writes or reads it is quantized.
    """
    touched: set[str] = set()
    chosen = set(names)
    for node in graph.model.graph:
        if node.name not in chosen or node.op_type not in KNOWN or node.name in rounding.tables:
            continue
        if _follows(node) and str(node.inputs[0].name if node.inputs[0] else "") not in touched:
            continue
        touched.update(str(value.name) for value in (*node.inputs, *node.outputs) if value is not None)
    return touched & rounding.tensors.keys()


def _follows(node: ir.Node) -> bool:
    return node.op_type in FOLLOWERS and node.inputs[0] is not None and not node.inputs[0].is_initializer()


def _head_before(node: ir.Node, heads: Mapping[str, str]) -> str | None:
    """The group that a node goes with: that of the node before it, if it is a follower or computes on that group alone."""
    computed = [value for value in node.inputs if value is not None and not value.is_initializer()]
    if node.op_type in CLAMPS and computed and len(computed[0].uses()) > 1:
        return None
    if _follows(node):
        computed = computed[:1]
    elif node.op_type not in ELEMENTWISE:
        return None
    before = {heads.get(str(producer.name)) if (producer := value.producer()) is not None else None for value in computed}
    return before.pop() if len(before) == 1 else None


def _has_constants(names: Iterable[str], rounding: Rounding) -> bool:
    with_constants = {name for name, _ in rounding.constants}
    return any(name in with_constants for name in names)


def _shared(graph: Graph, single: Sequence[Group], nodes: dict[str, ir.Node], rounding: Rounding) -> list[Group]:
    """For each rounded tensor that several groups read: these groups and the one that writes it."""
    touching: dict[str, list[Group]] = {}
    readers: dict[str, int] = {}
    for group in single:
        inside = {str(value.name) for name in group.nodes for value in nodes[name].outputs}
        for tensor in sorted(rounded_by(graph, rounding, group.nodes)):
            touching.setdefault(tensor, []).append(group)
            readers[tensor] = readers.get(tensor, 0) + (tensor not in inside)
    shared: dict[tuple[str, ...], Group] = {}
    for tensor, members in touching.items():
        if readers[tensor] < 2:
            continue
        wanted = {name for group in members for name in group.nodes}
        names = [name for name in nodes if name in wanted]
        shared.setdefault(tuple(names), _group(tensor, "shared", names, nodes, rounding))
    return list(shared.values())


def _group(name: str, kind: Kind, names: Sequence[str], nodes: dict[str, ir.Node], rounding: Rounding) -> Group:
    size = sum(value.nbytes for (node, _), value in rounding.constants.items() if node in names)
    return Group(name, kind, tuple(names), tuple(nodes[one].op_type for one in names), size)
