"""Which tensors are kept in integers, by rule.

A tensor is *resident* where integer kernels make it and read it. Convolutions always give such tensors: their kernels can give
nothing else. From there on residency spreads through operators that have integer kernels or only move numbers: activations,
residual sums whose sides are all resident, concatenations, pooling, reshapes. A Linear's result is resident only where all that
reads it, through an activation, is another weight; elsewhere it is given in float, which its kernel can do at no cost.

So convolutional networks compute in integers from end to end, and in transformers each Linear takes integers while LayerNorm,
softmax, GELU, attention's products and the residual stream stay float, without which they are wrecked.
"""

from dataclasses import dataclass
from typing import Any

from torch import fx

from edgekit_export.training.captured import operator_name, shape_of

__all__ = ["MOVES", "WEIGHTED", "Residency", "clamp_of", "decide"]

WEIGHTED = frozenset({"conv1d", "conv2d", "linear"})
"""Operators whose weight is rounded. Transposed convolutions have no integer kernel in onnxruntime and stay float."""

MOVES = frozenset(
    {
        "view",
        "reshape",
        "flatten",
        "transpose",
        "permute",
        "unsqueeze",
        "squeeze",
        "max_pool1d",
        "max_pool2d",
        "contiguous",
        "clone",
        "dropout",
        "slice",
        "detach",
        "alias",
    }
)
"""Operators that only move or choose numbers: their result lies on the steps of what they are given."""

ACTIVATIONS = frozenset(["hardswish", "hardsigmoid", "sigmoid", "leaky_relu", "relu", "relu6", "hardtanh", "clamp"])
POOLS = frozenset(["avg_pool2d", "adaptive_avg_pool2d"])
JOINS = frozenset(["add", "mul", "cat"])


@dataclass(frozen=True)
class Residency:
    """What is rounded.

    Attributes:
        weighted: Operators with a rounded weight.
        rounded: Operators whose result gets a quantizer of its own, in order.
        same: Operators that hand resident tensors on, to the operator whose quantizer theirs is.
        absorbed: ReLU and the like, to the operator before them whose quantizer does their work.
        edges: Float tensors that weights read, and are rounded for these alone.
    """

    weighted: tuple[fx.Node, ...]
    rounded: tuple[fx.Node, ...]
    same: dict[fx.Node, fx.Node]
    absorbed: dict[fx.Node, fx.Node]
    edges: tuple[fx.Node, ...]


def decide(graph: fx.Graph, skipped: frozenset[fx.Node] = frozenset()) -> Residency:
    """Decides for a captured graph.

    Args:
        graph: With batch normalization folded.
        skipped: Weighted operators that stay float.
    """
    weighted = [node for node in graph.nodes if _has_weight(node) and node not in skipped]
    integer = set(weighted)
    resident: set[fx.Node] = set()
    rounded: list[fx.Node] = []
    same: dict[fx.Node, fx.Node] = {}
    absorbed: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        called = operator_name(node)
        before = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if node in integer:
            follows = operator_name(node) != "linear" or _read_by_weights_alone(node, integer)
            if not follows:
                continue
        elif called in JOINS:
            parts = _joined(node)
            if not parts or not all(part in resident for part in parts):
                continue
        elif before is None or before not in resident or not _is_float(node):
            continue
        elif called in MOVES:
            resident.add(node)
            same[node] = same.get(before, before)
            continue
        elif called not in ACTIVATIONS | POOLS:
            continue
        resident.add(node)
        source = before if called in ACTIVATIONS else None
        if source is not None and _absorbs(source, node, rounded):
            absorbed[node] = source
            rounded.remove(source)
        rounded.append(node)
    needed = {node.args[0] for node in weighted if node.args[0] not in resident}
    edges = tuple(node for node in graph.nodes if node in needed)
    return Residency(tuple(weighted), tuple(rounded), same, absorbed, edges)


def clamp_of(node: fx.Node) -> tuple[float | None, float | None] | None:
    """Ends of a clamp from zero, which 8 bits without a sign do by themselves; ``None`` for anything else."""
    called = operator_name(node)
    if called == "relu":
        return (0.0, None)
    if called == "relu6":
        return (0.0, 6.0)
    if called in ("hardtanh", "clamp"):
        low: Any = node.args[1] if len(node.args) > 1 else (-1.0 if called == "hardtanh" else None)
        high: Any = node.args[2] if len(node.args) > 2 else (1.0 if called == "hardtanh" else None)
        if low == 0 and (high is None or high > 0):
            return (0.0, None if high is None else float(high))
    return None


def _absorbs(source: fx.Node, node: fx.Node, rounded: list[fx.Node]) -> bool:
    """Whether the quantizer behind a ReLU does the ReLU's work: nobody else reads what comes before it."""
    return clamp_of(node) is not None and source in rounded and len(source.users) == 1 and clamp_of(source) is None


def _has_weight(node: fx.Node) -> bool:
    if operator_name(node) not in WEIGHTED:
        return False
    weight = node.args[1]
    return isinstance(weight, fx.Node) and weight.op == "get_attr" and _is_float(node)


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return shape_of(node) is not None and value is not None and bool(value.dtype.is_floating_point)


def _joined(node: fx.Node) -> list[fx.Node]:
    """Tensors that an addition, a product or a concatenation joins; empty where one of them is a number or is scaled."""
    if operator_name(node) == "cat":
        listed: Any = node.args[0]
        return [part for part in listed if isinstance(part, fx.Node)]
    parts = [part for part in node.args[:2] if isinstance(part, fx.Node)]
    return parts if len(parts) == 2 and not node.kwargs.get("alpha") else []


def _read_by_weights_alone(node: fx.Node, integer: set[fx.Node]) -> bool:
    """Whether everything that reads a tensor, through activations and reshapes, is a rounded weight's operator."""
    if not node.users:
        return False
    return all(
        (user in integer and user.args[0] is node)
        or ((operator_name(user) in ACTIVATIONS | MOVES or _is_gated(user)) and _read_by_weights_alone(user, integer))
        for user in node.users
    )


def _is_gated(product: fx.Node) -> bool:
    """Whether a product is of a tensor with an activation of itself, as in x · sigmoid(x)."""
    if operator_name(product) != "mul" or len(product.args) != 2:
        return False
    pairs = (product.args, product.args[::-1])
    return any(isinstance(one, fx.Node) and operator_name(one) in ACTIVATIONS and one.args[0] is other for one, other in pairs)
