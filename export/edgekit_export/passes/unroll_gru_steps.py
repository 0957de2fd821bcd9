"""Write GRUs that run a single step in time as matrix products and gates.

onnxruntime has no integer kernel for GRU. A streaming model, which carries its state from call to call, runs its GRU for one
step; written as products it is quantized like any other weight, per channel, and has no loop to lose by it. Measured in dynamic
int8 against the float operator with onnxruntime 1.31 on AVX2, one thread, one step: 2.1 times as fast at 512 inputs and units,
1.2 times at 256, 0.9 times at 128 (where the gates' kernels weigh more than the products), a quarter of the size at any.

GRUs over several steps stay as they are: ONNX has no form of the operator that takes its input projection ready-made, so that
neither product can be quantized alone, and Scan costs more than integers win. LSTMs stay too: the operator's own int8 kernel is
faster than products and gates (1.5 against 1.3 times at 256) and as exact. RNNs come out of torch's exporter as products already.

Requires: constants as initializers, shapes inferred. Ensures: the same function of the input up to float rounding.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.rewiring import constant, take_place_of

__all__ = ["unroll_gru_steps"]

# Split takes the sizes of its parts as an input from here on.
OPSET = 13
BY_DEFAULT = [["Sigmoid", "Tanh"]]
UNSUPPORTED = ("clip", "layout", "activation_alpha", "activation_beta")


def unroll_gru_steps(graph: Graph) -> Graph:
    """The graph with GRUs of one step and one direction as MatMul and elementwise operators."""

    def edit(model: ir.Model) -> str | None:
        nodes = [node for node in model.graph if node.op_type == "GRU" and _fits(node)]
        for node in nodes:
            _Step(node, model.graph).replace()
        common.RemoveUnusedNodesPass()(model)
        return f"{len(nodes)} GRU" if nodes else None

    return graph if graph.opset < OPSET else graph.changed("unroll GRU steps", edit)


def _fits(node: ir.Node) -> bool:
    """Whether a GRU runs one step in one direction, with the gates that the operator has by default."""
    x, weight, recurrence = node.inputs[0], constant(node.inputs[1]), constant(node.inputs[2])
    if x is None or x.shape is None or x.shape[0] != 1 or weight is None or recurrence is None or weight.shape[0] != 1:
        return False
    bias, lengths = (node.inputs[index] if len(node.inputs) > index else None for index in (3, 4))
    if lengths is not None or (bias is not None and constant(bias) is None):
        return False
    activations = node.attributes.get_strings("activations", None)
    if activations is not None and list(activations) not in BY_DEFAULT:
        return False
    return not any(name in node.attributes and node.attributes[name].value for name in UNSUPPORTED)


class _Step:
    """A GRU's step as nodes, in ONNX's notation: update z, reset r, candidate h.

    Shapes: x (1, batch, inputs), state (1, batch, units), weights (3 · units, inputs) and (3 · units, units) in the order z, r, h.
    """

    def __init__(self, node: ir.Node, graph: ir.Graph) -> None:
        self.node, self.graph = node, graph
        inputs = [*node.inputs, *[None] * (6 - len(node.inputs))]
        weight, recurrence, bias = constant(inputs[1]), constant(inputs[2]), constant(inputs[3])
        if inputs[0] is None or weight is None or recurrence is None:
            raise ValueError(f"GRU {node.name}: its input or a weight is missing")
        self.x, self.state, self.weight, self.recurrence = inputs[0], inputs[5], weight[0], recurrence[0]
        self.units = int(self.recurrence.shape[1])
        rows = 3 * self.units
        self.bias = np.zeros((2, rows), weight.dtype) if bias is None else bias[0].reshape(2, rows)

    def replace(self) -> None:
        """Puts the nodes in the operator's place."""
        state = self._stateless() if self.state is None else self._stepped(self.state)
        direction = add_initializer(self.graph, f"{self.node.name}_direction", np.array([1], np.int64))
        take_place_of(self.node.outputs[0], self._new("Unsqueeze", state, direction))
        if len(self.node.outputs) > 1:
            take_place_of(self.node.outputs[1], state)
        self.graph.remove(self.node, safe=True)

    def _stepped(self, state: ir.Value) -> ir.Value:
        """``z · state + (1 - z) · h``, as ``h + z · (state - h)``."""
        gates = 2 * self.units
        bias = self.bias.sum(0)
        if self.node.attributes.get_int("linear_before_reset", 0):
            # The reset gate scales the recurrent product with its bias: h = tanh(x W + b + r (state R + c)).
            bias[gates:] = self.bias[0, gates:]
            inner_bias = np.concatenate([np.zeros(gates, self.bias.dtype), self.bias[1, gates:]])
            raw, candidate = self._split(self._product(self.x, self.weight, bias, "x"), [gates, self.units])
            before, inner = self._split(self._product(state, self.recurrence, inner_bias, "state"), [gates, self.units])
            update, reset = self._split(self._new("Sigmoid", self._new("Add", raw, before)), [self.units] * 2)
            inner = self._new("Mul", reset, inner)
        else:
            # It scales the state: h = tanh(x W + (r state) R + b).
            raw, candidate = self._split(self._product(self.x, self.weight, bias, "x"), [gates, self.units])
            before = self._product(state, self.recurrence[:gates], None, "state")
            update, reset = self._split(self._new("Sigmoid", self._new("Add", raw, before)), [self.units] * 2)
            inner = self._product(self._new("Mul", reset, state), self.recurrence[gates:], None, "reset_state")
        fresh = self._new("Tanh", self._new("Add", candidate, inner))
        return self._new("Add", fresh, self._new("Mul", update, self._new("Sub", state, fresh)))

    def _stateless(self) -> ir.Value:
        """From a state of zeros: ``(1 - z) · h``, where the recurrent product is its bias alone."""
        bias, gates = self.bias.sum(0), 2 * self.units
        apart = self.node.attributes.get_int("linear_before_reset", 0)
        if apart:
            bias[gates:] = self.bias[0, gates:]
        raw, candidate = self._split(self._product(self.x, self.weight, bias, "x"), [gates, self.units])
        update, reset = self._split(self._new("Sigmoid", raw), [self.units] * 2)
        if apart and self.bias[1, gates:].any():
            inner = add_initializer(self.graph, f"{self.node.name}_inner_bias", self.bias[1, gates:])
            candidate = self._new("Add", candidate, self._new("Mul", reset, inner))
        fresh = self._new("Tanh", candidate)
        return self._new("Sub", fresh, self._new("Mul", update, fresh))

    def _product(self, value: ir.Value, weight: np.ndarray, bias: np.ndarray | None, of: str) -> ir.Value:
        """``value · weightᵀ + bias``."""
        name = f"{self.node.name}_{of}"
        product = self._new(
            "MatMul", value, add_initializer(self.graph, f"{name}_weight", np.ascontiguousarray(weight.T)), name=name
        )
        if bias is None or not bias.any():
            return product
        return self._new("Add", product, add_initializer(self.graph, f"{name}_bias", bias))

    def _split(self, value: ir.Value, sizes: list[int]) -> list[ir.Value]:
        lengths = add_initializer(self.graph, f"{self.node.name}_widths", np.array(sizes, np.int64))
        node = ir.node("Split", [value, lengths], {"axis": -1}, num_outputs=len(sizes))
        self.graph.insert_before(self.node, node)
        return list(node.outputs)

    def _new(self, operator: str, *inputs: ir.Value, name: str | None = None) -> ir.Value:
        node = ir.node(operator, list(inputs), name=name)
        self.graph.insert_before(self.node, node)
        return node.outputs[0]
