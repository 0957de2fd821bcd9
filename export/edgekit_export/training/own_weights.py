"""Give each DequantizeLinear of a stored weight an integer tensor and a zero point that no other node uses.

Exporters store equal tensors once, and zero points are mostly equal. onnxruntime, where it turns signed weights into unsigned
ones for exact kernels on x86 without VNNI, then replaces a zero point that it has replaced already, and refuses the model
(``Attempt to replace the existing tensor``).
"""

import onnx_ir as ir

from edgekit_export.graph import Graph

__all__ = ["own_weights"]


def own_weights(graph: Graph) -> Graph:
    """The graph with a copy for each further use."""

    def edit(model: ir.Model) -> str | None:
        initializers = model.graph.initializers
        copies = 0
        for node in model.graph.all_nodes():
            if node.op_type != "DequantizeLinear" or node.inputs[0] is None or not node.inputs[0].is_initializer():
                continue
            for index in (0, 2):
                value = node.inputs[index] if index < len(node.inputs) else None
                if value is None or not value.is_initializer() or len(list(value.uses())) == 1:
                    continue
                name = f"{value.name}_own_{copies}"
                while name in initializers:
                    name += "_"
                own = ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)
                model.graph.register_initializer(own)
                node.replace_input_with(index, own)
                copies += 1
        return f"{copies} copies" if copies else None

    return graph.changed("own weights", edit)
