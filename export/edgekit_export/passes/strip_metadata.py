"""Strip what exporters leave for debugging: stack traces, class hierarchies, documentation.

Requires: nothing. Ensures: a model file holds what a device needs, and no path of the machine that built it.
"""

import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph

__all__ = ["strip_metadata"]


def strip_metadata(graph: Graph) -> Graph:
    """The graph without metadata and documentation."""

    def edit(model: ir.Model) -> str | None:
        modified = common.ClearMetadataAndDocStringPass()(model).modified
        return "debugging metadata gone" if modified else None

    return graph.changed("strip metadata", edit)
