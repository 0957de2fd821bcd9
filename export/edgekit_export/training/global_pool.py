"""The mean over an image, in the one form that has an integer kernel: GlobalAveragePool.

Exporters write it as ReduceMean, which integers have to leave for float.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekit_export.training.captured import operator_name, shape_of

__all__ = ["GlobalPool", "means_as_pools", "put_global_pools"]

IMAGE_RANK = 4
ONNX_VERSION = 19


class GlobalPool(nn.Module):
    """Mean of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, channels, 1, 1)."""
        if torch.compiler.is_exporting():
            shape = [*x.shape[:2], 1, 1]
            return torch.onnx.ops.symbolic("GlobalAveragePool", [x], dtype=x.dtype, shape=shape, version=ONNX_VERSION)
        return x.mean((2, 3), keepdim=True)


def means_as_pools(graph: fx.Graph) -> None:
    """Writes means over height and width as pooling to one position, and a flatten where they drop these axes; in place."""
    for node in list(graph.nodes):
        given = node.args[0] if node.args else None
        if operator_name(node) != "mean" or not isinstance(given, fx.Node) or not _over_image(node, given):
            continue
        keeps = len(node.args) > 2 and bool(node.args[2])
        with graph.inserting_before(node):
            pooled = graph.call_function(torch.ops.aten.adaptive_avg_pool2d.default, (given, [1, 1]))
            value = node.meta["val"]
            pooled.meta["val"] = value if keeps else value.unsqueeze(-1).unsqueeze(-1)
            result = pooled if keeps else graph.call_function(torch.ops.aten.flatten.using_ints, (pooled, 1))
        result.meta["val"] = value
        node.replace_all_uses_with(result)
        graph.erase_node(node)


def put_global_pools(module: fx.GraphModule) -> None:
    """Puts `GlobalPool` for pooling to one position; in place."""
    for node in list(module.graph.nodes):
        size: Any = node.args[1] if operator_name(node) == "adaptive_avg_pool2d" else None
        rank = len(shape_of(node) or ())
        if size is None or list(size) != [1, 1] or rank != IMAGE_RANK:
            continue
        name = f"{node.name}_global"
        module.add_module(name, GlobalPool())
        with module.graph.inserting_before(node):
            call = module.graph.call_module(name, (node.args[0],))
        call.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(call)
        module.graph.erase_node(node)


def _over_image(node: fx.Node, given: fx.Node) -> bool:
    """Whether a mean goes over the last two of four axes."""
    axes: Any = node.args[1] if len(node.args) > 1 else None
    rank = len(shape_of(given) or ())
    return rank == IMAGE_RANK and isinstance(axes, (list, tuple)) and {axis % rank for axis in axes} == {2, 3}
