"""Convolve along the width: networks over one axis with that axis where onnxruntime's convolutions walk.

onnxruntime's blocked convolutions (NCHWc, x86) take images alone, and go through them row by row. A network over one axis written
as Conv1d gets none of them; one written with columns, kernels of k×1 over images of width 1, gets rows of a single element. Both
compute the same with rows of height 1, and every convolution, pooling and sum in between does. Measured with onnxruntime 1.31 on
AVX2, one thread, three convolutions of 16 to 384 channels over 4 to 8000 elements: 1.5 to 2.6 times as fast as columns (1.0 for
kernels of one element), 1.01 to 1.9 times as fast as Conv1d, slower in none of twelve.

What leaves the region is put back by a Reshape, Squeeze or, where the length is not known, Transpose, of which the first two move
no data; `collapse_reshapes` joins them with others.

Requires: constants as initializers, shapes inferred. Ensures: the same function of the input, up to the order of float sums. What
has no form along the width stays as it was: weights that are computed, values whose width is not known to be 1, other operators.
"""

import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.passes.width_forms import Exchange, converted, data_inputs

__all__ = ["along_the_width"]

# Unsqueeze and Squeeze take their axes as an input from here on.
OPSET = 13


def along_the_width(graph: Graph) -> Graph:
    """The graph with convolutions over one axis, and what lies between and behind them, as images of height 1."""

    def edit(model: ir.Model) -> str | None:
        region = _region(model.graph)
        if not region:
            return None
        _Move(model.graph, region).run()
        common.RemoveUnusedNodesPass()(model)
        convolutions = sum(node.op_type == "Conv" for node in region)
        return f"{convolutions} convolutions, {len(region) - convolutions} nodes behind them"

    return graph if graph.opset < OPSET else graph.changed("along the width", edit)


def _region(graph: ir.Graph) -> dict[ir.Node, Exchange]:
    """The convolutions that gain, and all nodes behind them that can go along, in the graph's order."""
    region: dict[ir.Node, Exchange] = {}
    for node in graph:
        form = Exchange.of(node)
        if form is not None and (_gains(node, form) or any(value.producer() in region for value in data_inputs(node))):
            region[node] = form
    return region


def _gains(node: ir.Node, form: Exchange) -> bool:
    """Whether a convolution goes over one axis; one over a single element has no direction."""
    if node.op_type != "Conv":
        return False
    given = data_inputs(node)[0].shape
    return form.rank == 3 or (given is not None and given[2] != 1)


class _Move:
    """The region with its values turned, and borders where values come in and go out."""

    def __init__(self, graph: ir.Graph, region: dict[ir.Node, Exchange]) -> None:
        self.graph, self.region = graph, region
        self.entered: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        """Turns every node in place, so that names stay."""
        for node, form in self.region.items():
            for index, value in enumerate(node.inputs):
                if value is not None and value in data_inputs(node) and value.producer() not in self.region:
                    node.replace_input_with(index, self._entered(value, form, node))
            converted(node, form, self.graph)
        for node, form in self.region.items():
            for value in node.outputs:
                self._leave(value, form, node)

    def _entered(self, value: ir.Value, form: Exchange, reader: ir.Node) -> ir.Value:
        """The turned form of a value from outside, made before the first node that reads it."""
        if form.unmoved(value.shape):
            return value
        if value not in self.entered:
            node = self._border(value, value.shape, form, back=False)
            node.outputs[0].shape = form.shape(value.shape)
            self.graph.insert_before(reader, node)
            self.entered[value] = node.outputs[0]
        return self.entered[value]

    def _leave(self, value: ir.Value, form: Exchange, maker: ir.Node) -> None:
        """Hands a value on to who reads it outside as it was before."""
        outside = [use for use in value.uses() if use.node not in self.region]
        shape = value.shape
        value.shape = form.shape(shape)
        if form.unmoved(shape) or not (outside or value.is_graph_output()):
            return
        node = self._border(value, shape, form, back=True)
        back = node.outputs[0]
        back.shape = shape
        self.graph.insert_after(maker, node)
        for use in outside:
            use.node.replace_input_with(use.idx, back)
        if value.is_graph_output():
            places = [index for index, output in enumerate(self.graph.outputs) if output is value]
            value.name, back.name = f"{value.name}_along_the_width", value.name
            for index in places:
                self.graph.outputs[index] = back

    def _border(self, value: ir.Value, outside: ir.Shape | None, form: Exchange, *, back: bool) -> ir.Node:
        """A node that turns `value` into the region's form, or back from it."""
        operator, constants, attributes = form.border(outside, back=back)
        name = f"{value.name}_{'back' if back else 'along'}"
        inputs = [value, *(add_initializer(self.graph, f"{name}_{operator.lower()}", array) for array in constants)]
        node = ir.node(operator, inputs, attributes, name=name)
        node.outputs[0].name, node.outputs[0].type = name, value.type
        return node
