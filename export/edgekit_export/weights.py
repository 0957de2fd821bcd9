"""Weights by node: which are integer, and which stayed float."""

from dataclasses import dataclass

import onnx_ir as ir

from edgekit_export.graph import Graph

__all__ = ["Weight", "float_weights", "weights"]

# Input that holds the weight, by operator; recurrent ones have two.
WEIGHTED = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "FusedGemm": (1,),
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "FusedConv": (1,),
    "Attention": (1,),
    "Gather": (0,),
}
# An embedding table; other stored data that is gathered from is too small to matter.
SMALLEST_TABLE_BYTES = 65_536
FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}


@dataclass(frozen=True)
class Weight:
    """One weight of one node.

    Attributes:
        node: The node's name.
        operator: Its operator.
        name: The initializer's name.
        dtype: Its dtype, such as ``float32``.
        size_bytes: Its size.
    """

    node: str
    operator: str
    name: str
    dtype: str
    size_bytes: int


def weights(graph: Graph) -> list[Weight]:
    """Weights that reach their node in float: not those behind a DequantizeLinear, nor those of integer operators."""
    found = []
    for node in graph.model.graph.all_nodes():
        for index in WEIGHTED.get(node.op_type, ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            tensor = value.const_value if value is not None and value.is_initializer() else None
            if value is None or tensor is None or (node.op_type == "Gather" and not _is_table(tensor)):
                continue
            if tensor.dtype in FLOATS:
                found.append(Weight(str(node.name), node.op_type, str(value.name), str(tensor.dtype.numpy()), tensor.nbytes))
    return found


def _is_table(tensor: ir.TensorProtocol) -> bool:
    """Whether what a Gather reads is an embedding table; a single number a row is the scale of an integer one."""
    return tensor.nbytes >= SMALLEST_TABLE_BYTES and tensor.size > (tensor.shape.numpy()[0] if len(tensor.shape) else 1)


def float_weights(before: Graph, after: Graph) -> list[Weight]:
    """Weights of `before` that are still float in `after`.

    A weight may have several nodes, of which some became integer, and quantizers rename a node that they split up.
    """
    then, now = _nodes_of(weights(before)), _nodes_of(weights(after))
    return [
        weight
        for weight in weights(before)
        if weight.node in now.get(weight.name, ()) or now.get(weight.name, set()) - then[weight.name]
    ]


def _nodes_of(found: list[Weight]) -> dict[str, set[str]]:
    """Names of the nodes that use a weight, by the weight's name."""
    nodes: dict[str, set[str]] = {}
    for weight in found:
        nodes.setdefault(weight.name, set()).add(weight.node)
    return nodes
