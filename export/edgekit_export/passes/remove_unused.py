"""Remove what no output depends on, and initializers that are listed as inputs.

Requires: nothing. Ensures: every node, initializer and function is used, and inputs are what a caller gives.
"""

import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph

__all__ = ["remove_unused"]


def remove_unused(graph: Graph) -> Graph:
    """The graph without dead parts."""

    def edit(model: ir.Model) -> str | None:
        before = (sum(1 for _ in model.graph.all_nodes()), len(model.graph.initializers), len(model.graph.inputs))
        functions = len(model.functions)
        common.InlinePass()(model)
        common.RemoveInitializersFromInputsPass()(model)
        common.RemoveUnusedNodesPass()(model)
        common.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass()(model)
        after = (sum(1 for _ in model.graph.all_nodes()), len(model.graph.initializers), len(model.graph.inputs))
        gone = [one - two for one, two in zip(before, after, strict=True)]
        inlined = f"{functions} functions inlined; " if functions else ""
        return f"{inlined}{gone[0]} nodes, {gone[1]} initializers, {gone[2]} inputs" if functions or any(gone) else None

    return graph.changed("remove unused", edit)
