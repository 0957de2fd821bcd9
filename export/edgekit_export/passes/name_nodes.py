"""Give every node a name of its own; placements and quantizers choose nodes by name, and many files have none.

Requires: nothing. Ensures: no two nodes of the graph and its subgraphs share a name, and none is empty.
"""

import onnx_ir as ir

from edgekit_export.graph import Graph

__all__ = ["name_nodes"]


def name_nodes(graph: Graph) -> Graph:
    """The graph with named nodes; names that were unique stay."""

    def edit(model: ir.Model) -> str | None:
        nodes = list(model.graph.all_nodes())
        taken = {node.name for node in nodes}
        seen: set[str | None] = {None, ""}
        named = 0
        for node in nodes:
            if node.name in seen:
                number = named
                while (name := f"{node.op_type}_{number}") in taken:
                    number += 1
                node.name = name
                taken.add(name)
                named += 1
            seen.add(node.name)
        return f"{named} nodes" if named else None

    return graph.changed("name nodes", edit)
