"""SmoothQuant: outlying channels of activations move into the weights behind them.

Xiao et al., *SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models* (arXiv:2211.10438): an
activation has one scale for all channels, so a few channels that are a hundred times larger than the rest leave the rest a step
or two. Dividing channel j by s_j = max|x_j|^α / max|w_j|^(1−α), and multiplying row j of the weight by it, changes nothing in
float and evens both out. The division goes into what gives the activation: a LayerNormalization (one operator, or spelt out), a
product, or one side of a gate; where nothing there can take it, a Mul is inserted.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgekit_export.corrections.layers import Layer, bias_of, constant, layers_of, set_initializer
from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer

__all__ = ["smooth"]

# A channel that was silent in calibration keeps a scale; no factor beyond this.
LARGEST_FACTOR = 1e4
# A Mul of its own is paid for where the largest channel is this many times the median one.
WORTH_A_NODE = 4.0

Edit = Callable[[np.ndarray], None]
"""Divides something by the factors, (channels,)."""


def smooth(graph: Graph, maxima: Mapping[str, np.ndarray], *, strength: float = 0.7, insert: bool = True) -> Graph:
    """The graph with its MatMul and Gemm inputs smoothed; it computes the same.

    Ranges from calibration do not hold any more: calibrate anew.

    Args:
        graph: A prepared graph.
        maxima: From `channel_maxima` on this graph.
        strength: α, how much of the spread moves into the weights, 0 to 1. Weights have a scale for each channel, so they bear more
            than half of it: MiniLM is best at 0.7.
        insert: Whether a Mul may be inserted where nothing before can take the factors; one for all layers that read a tensor,
            and only where its channels are uneven enough.
    """

    def edit(model: ir.Model) -> str | None:
        found = [layer for layer in layers_of(model) if layer.operator != "Conv"]
        weights = [layer.weight for layer in found]
        folded = inserted = 0
        for name in dict.fromkeys(layer.input for layer in found):
            readers = [layer for layer in found if layer.input == name and weights.count(layer.weight) == 1]
            if name not in maxima or len(readers) < sum(layer.input == name for layer in found):
                continue
            factors = _factors(np.asarray(maxima[name], np.float64), readers, strength)
            nodes = {str(node.name): node for node in model.graph}
            reading = [nodes[layer.name] for layer in readers]
            value = reading[0].inputs[0]
            if value is None:
                continue
            edits = _takers(model, value, reading)
            if edits is not None:
                for taker in edits:
                    taker(factors)
                folded += 1
            elif insert and _uneven(maxima[name]) > WORTH_A_NODE:
                _insert(model, value, reading, factors)
                inserted += 1
            else:
                continue
            for layer, node in zip(readers, reading, strict=True):
                weight = node.inputs[1]
                if weight is not None and (values := constant(weight)) is not None:
                    scaled = values * (factors[:, None] if layer.transposed else factors)
                    set_initializer(model, weight, node, scaled.astype(np.float32))
        return f"{folded} inputs folded into what gives them, {inserted} by a Mul" if folded or inserted else None

    return graph.changed("smooth", edit)


def _factors(largest: np.ndarray, readers: Sequence[Layer], strength: float) -> np.ndarray:
    """What to divide each channel by: (channels,), with a geometric mean of one."""
    rows = [np.abs(layer.values).max(axis=1 if layer.transposed else 0) for layer in readers]
    weights = np.max(np.stack(rows), axis=0).astype(np.float64)
    alive = (largest > 0) & (weights > 0)
    if not alive.any():
        return np.ones_like(largest)
    factors = np.where(alive, largest, 1.0) ** strength / np.where(alive, weights, 1.0) ** (1.0 - strength)
    factors = np.where(alive, factors / np.exp(np.log(factors[alive]).mean()), 1.0)
    return np.asarray(np.clip(factors, 1.0 / LARGEST_FACTOR, LARGEST_FACTOR))


def _uneven(largest: np.ndarray) -> float:
    median = float(np.median(largest))
    return float(largest.max()) / median if median > 0 else np.inf


def _takers(model: ir.Model, value: ir.Value, readers: Sequence[ir.Node]) -> list[Edit] | None:
    """How to divide `value`, which only `readers` may read, by factors for its last axis; ``None`` where it cannot be."""
    node = value.producer()
    if node is None or value.is_graph_output() or any(use.node not in readers for use in value.uses()):
        return None
    channels = _last_axis(value)
    if node.op_type == "LayerNormalization" and node.domain == "":
        terms = [index for index in (1, 2) if index < len(node.inputs) and node.inputs[index] is not None]
        if node.attributes.get_int("axis", -1) not in (-1, _rank(value) - 1):
            return None
        return _edits(model, node, terms, channels)
    if node.op_type in ("Gemm", "MatMul"):
        return _product(model, node)
    if node.op_type == "Relu" and node.inputs[0] is not None:
        return _takers(model, node.inputs[0], [node])
    if node.op_type not in ("Add", "Mul", "Div") or len(node.inputs) != 2:
        return None
    constants = [index for index in (0, 1) if constant(node.inputs[index]) is not None]
    if node.op_type == "Mul" and constants:
        return _edits(model, node, constants, channels)
    others = [node.inputs[index] for index in (0, 1) if index not in constants and not (node.op_type == "Div" and index)]
    for other in others:
        taken = _takers(model, other, [node]) if other is not None and _last_axis(other) == channels else None
        if taken is None:
            continue
        if node.op_type != "Add":
            return taken
        added = _edits(model, node, constants, channels) if constants else None
        return [*taken, *added] if added is not None else None
    return None


def _edits(model: ir.Model, node: ir.Node, indices: Sequence[int], channels: int | None) -> list[Edit] | None:
    """Edits that divide constants of a node, each one number or one for each channel."""
    edits: list[Edit] = []
    for index in indices:
        array = constant(node.inputs[index])
        if array is None or channels is None or array.size not in (1, channels) or (array.ndim and array.shape[-1] != array.size):
            return None
        edits.append(_dividing(model, node, index))
    return edits


def _product(model: ir.Model, node: ir.Node) -> list[Edit] | None:
    layer = next((layer for layer in layers_of(model) if layer.name == node.name), None)
    weight = node.inputs[1]
    if layer is None or weight is None:
        return None
    shape = (1, -1) if layer.transposed else (-1, 1)
    edits = [_dividing(model, node, 1, shape)]
    if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = bias_of(node)
        if bias is None:
            return None
        edits.append(_dividing(model, node, 2))
    return edits


def _dividing(model: ir.Model, node: ir.Node, index: int, shape: tuple[int, ...] = (-1,)) -> Edit:
    def divide(factors: np.ndarray) -> None:
        value = node.inputs[index]
        # Read anew: an earlier edit may have changed it.
        current = constant(value)
        if value is not None and current is not None:
            set_initializer(model, value, node, (current / factors.reshape(shape)).astype(np.float32))

    return divide


def _insert(model: ir.Model, value: ir.Value, readers: Sequence[ir.Node], factors: np.ndarray) -> None:
    name = f"{value.name}_smoothed"
    by = add_initializer(model.graph, f"{name}_by", (1.0 / factors).astype(np.float32))
    node = ir.node("Mul", [value, by], name=f"smooth_{value.name}")
    output = node.outputs[0]
    output.name, output.shape, output.type = name, value.shape, value.type
    model.graph.insert_before(readers[0], node)
    for reader in readers:
        reader.replace_input_with(0, output)


def _rank(value: ir.Value) -> int:
    return -1 if value.shape is None else len(value.shape)


def _last_axis(value: ir.Value) -> int | None:
    last = value.shape[-1] if value.shape is not None and len(value.shape) else None
    return last if isinstance(last, int) else None
