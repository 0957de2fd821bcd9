"""Rewiring: what every rewrite of a graph does — read constants, follow values, put one value in the place of another."""

import numpy as np
import onnx_ir as ir

__all__ = ["constant", "only_user", "producer_of", "take_place_of"]


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initializer; ``None`` for anything else."""
    tensor = value.const_value if value is not None and value.is_initializer() else None
    return None if tensor is None else tensor.numpy()


def producer_of(value: ir.Value | None, operator: str) -> ir.Node | None:
    """The node that makes a value, where it is of this operator."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == operator and node.domain in ("", "ai.onnx") else None


def only_user(value: ir.Value) -> tuple[ir.Node, int] | None:
    """The one node that uses a value, and at which input; ``None`` where there are more, or where it is an output of the graph."""
    uses = list(value.uses())
    return (uses[0].node, uses[0].idx) if len(uses) == 1 and not value.is_graph_output() else None


def take_place_of(old: ir.Value, new: ir.Value) -> None:
    """Gives every user of `old`, the graph's outputs among them, `new`, which takes over its name, type and shape."""
    name = old.name
    new.type, new.shape = old.type or new.type, old.shape if old.shape is not None else new.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = f"{name}_before"
    new.name = name
