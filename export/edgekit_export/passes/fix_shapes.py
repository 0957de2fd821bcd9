"""Fix free axes, for providers that take none (Qualcomm's HTP, CoreML, NNAPI).

Requires: named free axes. Ensures: every input axis has a size.
"""

from collections.abc import Mapping

import onnx_ir as ir

from edgekit_export.graph import Graph

__all__ = ["fix_shapes"]


def fix_shapes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """The graph with its inputs at `shapes`; shapes further on are forgotten, for `infer_shapes` to find."""

    def edit(model: ir.Model) -> str | None:
        fixed = []
        for value in model.graph.inputs:
            wanted = shapes.get(str(value.name))
            if wanted is not None and value.shape is not None and tuple(value.shape) != wanted:
                value.shape = ir.Shape(wanted)
                fixed.append(f"{value.name} {list(wanted)}")
        if not fixed:
            return None
        for node in model.graph.all_nodes():
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None
        return ", ".join(fixed)

    return graph.changed("fix shapes", edit)
