"""Who makes each value of a graph and who takes it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from edgekit.inspection.weights import StoredTensor, nodes_of, tensors_of

if TYPE_CHECKING:
    import onnx

__all__ = ["MOVEMENT", "Wiring", "count_operators", "label"]

# They move values and compute nothing; the last two are onnxruntime's, around convolutions in its blocked layout.
MOVEMENT = frozenset(
    [
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "ReorderInput",
        "ReorderOutput",
    ]
)


# The prefix of the names that onnxruntime gives while it expands functions and fuses nodes.
MADE_UP = "_token_"


class Wiring:
    """A model's values, their makers and their takers, nested graphs taken as one with the outer one.

    Attributes:
        nodes: Every node that computes; Constant nodes are `stored` instead.
        stored: Stored tensors by name.
        inputs: Names of what the model takes.
        outputs: Names of what it gives.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.nodes = [node for node in nodes_of(proto) if node.op_type != "Constant"]
        self.stored: dict[str, StoredTensor] = {tensor.name: tensor for tensor in tensors_of(proto)}
        self.inputs = {value.name for value in proto.graph.input} - self.stored.keys()
        self.outputs = {value.name for value in proto.graph.output}

    @cached_property
    def makers(self) -> dict[str, onnx.NodeProto]:
        """The node that makes a value, by the value's name."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def takers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that take a value, by the value's name."""
        takers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                if name:
                    takers.setdefault(name, []).append(node)
        return takers

    def input_of(self, node: onnx.NodeProto, index: int) -> str:
        """Name of a node's input, empty where it is left out."""
        return node.input[index] if index < len(node.input) else ""

    def stored_input(self, node: onnx.NodeProto, index: int) -> StoredTensor | None:
        """A node's input where it is a stored tensor, seen through nodes that only move values."""
        name = self.input_of(node, index)
        while name not in self.stored:
            maker = self.makers.get(name)
            if maker is None or maker.op_type not in MOVEMENT or not maker.input:
                return None
            name = maker.input[0]
        return self.stored[name]


def label(node: onnx.NodeProto) -> str:
    """A node's name; where it has none, or one that onnxruntime made up, what it makes or what it takes."""
    if node.name and not node.name.startswith(MADE_UP):
        return str(node.name)
    known = [str(name) for name in (*node.output, *node.input) if name and not name.startswith(MADE_UP)]
    if known and known[0] in node.output:
        return known[0]
    return f"{node.op_type}({known[0]})" if known else node.op_type


def count_operators(nodes: list[onnx.NodeProto]) -> dict[str, int]:
    """How many nodes of each operator there are, most frequent first; other domains than ONNX's own are named."""
    counts: dict[str, int] = {}
    for node in nodes:
        name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
