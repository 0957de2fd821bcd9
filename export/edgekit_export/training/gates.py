"""SiLU spelled out as x · sigmoid(x), whose two halves have integer kernels; it has none itself."""

import torch
from torch import fx

from edgekit_export.training.captured import operator_name

__all__ = ["silu_as_product"]


def silu_as_product(graph: fx.Graph) -> None:
    """Writes each SiLU as a product, in place."""
    for node in list(graph.nodes):
        if operator_name(node) != "silu":
            continue
        with graph.inserting_before(node):
            gate = graph.call_function(torch.ops.aten.sigmoid.default, (node.args[0],))
            product = graph.call_function(torch.ops.aten.mul.Tensor, (node.args[0], gate))
        gate.meta["val"] = product.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(product)
        graph.erase_node(node)
