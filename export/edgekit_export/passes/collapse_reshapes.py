"""Write chains of nodes that only rename axes as one Reshape, and drop those that do nothing.

Exporters spell a change of view as Squeeze, Unsqueeze, Reshape, a Transpose that moves axes of length 1, a Gather of the only
element or a Slice of everything. None computes, and some copy. onnxruntime takes 1 to 2 µs for each; the voice detector of Silero,
whose step takes 90 µs, has seven of them (onnxruntime 1.31, AVX2, one thread: 1.06 times as fast without).

Chains of nothing but Unsqueeze stay: they cost no copy, and fusions look for the masks of attention behind them.

Requires: constants as initializers, shapes inferred. Ensures: the same elements in the same order. A chain whose last shape cannot
be told by numbers, axes that keep their place and at most one that is left over stays as it was.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.passes.renamed_axes import Axes, axes_of, renamed
from edgekit_export.rewiring import only_user, take_place_of

__all__ = ["collapse_reshapes"]

# Unsqueeze and Squeeze take their axes as an input from here on.
OPSET = 13
# Cost no copy, and are as quick as a Reshape.
FREE = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})


def collapse_reshapes(graph: Graph) -> Graph:
    """The graph with a Reshape, or nothing, for each chain."""

    def edit(model: ir.Model) -> str | None:
        gone = made = 0
        for chain, before, after in _chains(model.graph):
            given, last = chain[0].inputs[0], chain[-1].outputs[0]
            assert given is not None
            if after == before:
                if last.is_graph_output():
                    continue
                last.replace_all_uses_with(given)
            else:
                shape = _target(before, after)
                if shape is None or (len(chain) == 1 and chain[0].op_type in FREE):
                    continue
                constant = add_initializer(model.graph, f"{last.name}_shape", np.array(shape, np.int64))
                node = ir.node("Reshape", [given, constant], name=chain[-1].name)
                model.graph.insert_before(chain[0], node)
                take_place_of(last, node.outputs[0])
                made += 1
            model.graph.remove(reversed(chain), safe=True)
            gone += len(chain)
        if not gone:
            return None
        common.RemoveUnusedNodesPass()(model)
        return f"{made} for {gone} nodes"

    return graph if graph.opset < OPSET else graph.changed("collapse reshapes", edit)


def _chains(graph: ir.Graph) -> list[tuple[list[ir.Node], Axes, Axes]]:
    """The longest chains of nodes that read nothing but each other, with the axes before and behind them."""
    found = []
    seen: set[ir.Node] = set()
    for node in graph:
        axes = axes_of(node.inputs[0]) if node not in seen and node.inputs else None
        if axes is None or node.graph is not graph:
            continue
        chain: list[ir.Node] = []
        before, following = axes, node
        while (then := renamed(following, axes)) is not None:
            chain.append(following)
            axes = then
            user = only_user(following.outputs[0])
            if user is None or user[1] != 0 or user[0].graph is not graph:
                break
            following = user[0]
        seen.update(chain)
        if chain and any(one.op_type != "Unsqueeze" for one in chain):
            found.append((chain, before, axes))
    return found


def _target(before: Axes, after: Axes) -> list[int] | None:
    """A Reshape's constant: numbers, 0 for an axis in its old place, -1 for what is left over; ``None`` where that does not do."""
    shape = []
    for index, length in enumerate(after):
        if isinstance(length, int):
            shape.append(length)
        else:
            shape.append(0 if index < len(before) and before[index] == length else -1)
    # With an empty axis beside it nothing is left over to tell -1 from.
    several = shape.count(-1) > 1 or (-1 in shape and 0 in shape)
    return None if several or any(length == 0 for length in after) else shape
