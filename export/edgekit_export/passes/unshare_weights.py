"""Give nodes that use one weight along different axes a weight each.

onnxruntime's quantizers choose the axis of a weight's scales by one of its nodes and apply it to all: a weight tied to its own
transpose, as in many language models, then comes out wrong without a word.

Requires: constants as initializers. Ensures: all nodes that use a weight use it in the same way.
"""

import onnx_ir as ir

from edgekit_export.graph import Graph

__all__ = ["unshare_weights"]

SHARING = frozenset({"Conv", "ConvTranspose", "Gather", "Gemm", "MatMul"})


def unshare_weights(graph: Graph) -> Graph:
    """The graph with a copy of a weight for each further way in which it is used."""

    def edit(model: ir.Model) -> str | None:
        copies = 0
        for value in list(model.graph.initializers.values()):
            ways: dict[tuple[str, int, int], ir.Value] = {}
            for node, index in list(value.uses()):
                if node.op_type not in SHARING or value.const_value is None:
                    continue
                way = (node.op_type, index, node.attributes.get_int("transB", 0))
                if way not in ways:
                    ways[way] = _copy(value, f"{value.name}_{len(ways)}", model.graph) if ways else value
                    copies += ways[way] is not value
                node.replace_input_with(index, ways[way])
        return f"{copies} copies" if copies else None

    return graph.changed("unshare weights", edit)


def _copy(value: ir.Value, name: str, graph: ir.Graph) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    copy = ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)
    graph.register_initializer(copy)
    return copy
