"""A module as one flat graph of ATen operators, which training-time compression reads and edits.

``torch.export`` gives the graph: what it can follow is also what can be deployed later. Parameters keep the names that they
have in the module.
"""

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from edgekit_export.example_feeds import Dynamic, check_example, resized, tracing_sizes
from edgekit_export.routes import exported_program, quiet_torch
from edgekit_export.torch_module import TorchModel
from edgekit_export.trace_errors import translate
from edgekit_runtime.errors import CompressionError, EdgekitError

__all__ = ["Captured", "capture", "operator_name", "shape_of"]

# They hand on a part of their input's own memory: writing into it in place writes into the whole.
VIEWS = frozenset(
    {
        "view",
        "reshape",
        "flatten",
        "transpose",
        "permute",
        "unsqueeze",
        "squeeze",
        "slice",
        "select",
        "split",
        "chunk",
        "narrow",
        "expand",
        "t",
        "getitem",
        "detach",
    }
)


@dataclass(frozen=True)
class Captured:
    """A module's graph.

    Attributes:
        graph_module: It, with its parameters under the module's own names. Without operators that write in place.
        model: A copy of the module in eval mode, callable on arrays.
        example: The example, checked.
        dynamic: Axes that may vary.
        feed: The example at the sizes that the graph was captured at.
    """

    graph_module: fx.GraphModule
    model: TorchModel
    example: dict[str, np.ndarray]
    dynamic: Dynamic
    feed: dict[str, np.ndarray]

    @property
    def nodes(self) -> list[fx.Node]:
        """The graph's nodes, in order."""
        return list(self.graph_module.graph.nodes)


def capture(
    module: object, example: Mapping[str, np.ndarray], dynamic: Dynamic | None = None, outputs: Sequence[str] = ()
) -> Captured:
    """Follows a module through ``torch.export``.

    Args:
        module: A ``torch.nn.Module``, in any mode; it is left as it is.
        example: Arrays by the names of forward's parameters, in order.
        dynamic: Axes that may vary.
        outputs: Output names, in order.

    Raises:
        RecipeError: The example, the names or the axes do not fit the module.
        TraceError: ``torch.export`` cannot follow it; says which line is in the way.
        CompressionError: It writes in place into a part of a tensor.
    """
    dynamic = dynamic or {}
    example = check_example(example, dynamic)
    model = TorchModel(copy.deepcopy(module).eval() if isinstance(module, nn.Module) else module, example, outputs)
    feed = _workable_feed(model, example, dynamic)
    try:
        with quiet_torch():
            program = exported_program(model, feed, dynamic, strict=False)
            # Guards would refuse sizes that the operators themselves take.
            graph_module = program.module(check_guards=False)
    except (MemoryError, EdgekitError):
        raise
    except Exception as error:
        raise translate(error, model, feed, dynamic) from error
    _write_nothing_in_place(graph_module.graph, type(model.module).__name__)
    return Captured(graph_module, model, example, dynamic, feed)


def operator_name(node: fx.Node) -> str:
    """``conv2d`` for ``aten.conv2d.default``; empty for what is no operator."""
    if node.op != "call_function":
        return ""
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", None)
    return str(getattr(packet, "__name__", "") or getattr(node.target, "__name__", ""))


def shape_of(node: fx.Node) -> tuple[Any, ...] | None:
    """Shape of a node's tensor, free axes as symbols; ``None`` where it is no tensor."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _workable_feed(model: TorchModel, example: Mapping[str, np.ndarray], dynamic: Dynamic) -> dict[str, np.ndarray]:
    """The example at the first sizes that forward() takes; at its own where it takes none of them, to fail on that."""
    for sizes in tracing_sizes(example, dynamic):
        feed = resized(example, dynamic, sizes)
        try:
            model(feed)
        except Exception:  # noqa: BLE001, S112 - whatever forward() raises, it does not take this size
            continue
        return feed
    return dict(example)


def _write_nothing_in_place(graph: fx.Graph, name: str) -> None:
    """Puts ``relu`` for ``relu_`` and the like; whoever read the tensor afterwards reads the result.

    Raises:
        CompressionError: What is written into is a part of another tensor, which would have to change with it.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        called = operator_name(node)
        if not called.endswith("_") or called.endswith("__"):
            continue
        target = node.args[0]
        outside = getattr(torch.ops.aten, called.rstrip("_"), None)
        overload = getattr(outside, getattr(node.target, "_overloadname", ""), None)
        if not isinstance(target, fx.Node) or overload is None or operator_name(target) in VIEWS or target.op != "call_function":
            raise CompressionError(
                f"capture {name}: {called} writes in place into {target}, which is an input, a parameter or a part of another "
                "tensor; use the operator that returns its result instead"
            )
        node.target = overload
        for user in list(target.users):
            if user is not node and order[user] > order[node]:
                user.replace_input_with(target, node)
    graph.lint()
