"""Learned rounding: each weight goes up or down so that its layer's output, not the weight itself, is nearest to float's.

Rounding to nearest is best for the weights and not for what they compute (Nagel et al., *Up or Down? Adaptive Rounding for
Post-Training Quantization*, arXiv:2004.10568). AdaRound trains the choice; Frantar et al., *GPTQ* (arXiv:2210.17323), find as
good a one without training: weights are rounded one input after another, and each one's error is made up for by those that
are not yet rounded, by the second moments of what the layer reads. Here the moments are those about the mean, and the
layer's bias makes up for the error in the mean, exactly: that is the analytic bias correction of Nagel et al., *Data-Free
Quantization Through Weight Equalization and Bias Correction* (arXiv:1906.04721, section 4.2), with measured means.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit_export.calibration.checked_feeds import Feed
from edgekit_export.calibration.observe import observed
from edgekit_export.corrections.grams import Gram, Window, positions_for, window_of
from edgekit_export.corrections.grid import Grid, grid_of
from edgekit_export.corrections.layers import Layer, bias_of, constant, layers_of, set_initializer
from edgekit_export.graph import Graph
from edgekit_export.passes import unshare_weights
from edgekit_export.schemes import Flavour, Granularity

__all__ = ["learn_rounding"]

# Larger moments than this are collected in several rounds over the feeds.
MOMENT_BYTES = 512 * 1024 * 1024
# A layer that reads more at once is rounded to nearest: its moments alone would take 0.3 GB, and minutes.
LARGEST_INPUTS = 6144
# Inputs whose errors reach the inputs behind them in one product.
BLOCK = 64
# Added to the moments' diagonal, as a share of its mean. Directions that a few feeds happen not to show would otherwise be
# treated as free, and errors pile up there: with none of it EfficientNet-Lite0 loses what rounding wins.
DAMPING = 0.1
# Share of the mean that stays in the moments, for means that differ elsewhere from what the feeds have.
MEAN_SHARE = 0.1


@dataclass(frozen=True)
class _Learned:
    """A layer's new constants, and mean squared output errors: rounded to nearest, and as learned."""

    weight: np.ndarray
    shift: np.ndarray | None
    nearest_error: float
    error: float


def learn_rounding(
    graph: Graph,
    feeds: Sequence[Feed],
    flavour: Flavour,
    granularity: Granularity = "channel",
    *,
    nodes: Collection[str] | None = None,
) -> Graph:
    """The float graph with the weights of Conv, Gemm and MatMul on the grid that the quantizer will use.

    The quantizer's plain rounding then reproduces the learned choice. Ranges of activations stay valid: every weight moves by
    about one step. The output error of no channel gets larger on the positions that were looked at.

    Args:
        graph: A prepared graph, as it will be quantized.
        feeds: A few dozen feeds; they may be run through several times.
        flavour: Types of the scheme that the graph is going to be quantized in.
        granularity: Of that scheme.
        nodes: Names of the nodes that will be quantized; all where it is ``None``.

    Returns:
        The graph; unchanged where it has no such layer.

    Raises:
        CalibrationError: A feed does not fit, or cannot be run.
    """
    graph = unshare_weights(graph)
    found = layers_of(graph)
    once = [layer for layer in found if sum(other.weight == layer.weight for other in found) == 1]
    wanted = [layer for layer in once if (nodes is None or layer.name in nodes) and layer.rows().shape[2] <= LARGEST_INPUTS]
    if not wanted:
        return graph
    learned = {
        layer.name: _learn(layer, gram, grid_of(flavour, granularity, depthwise=layer.depthwise))
        for layer, gram in _moments(graph, wanted, feeds)
    }

    def edit(model: ir.Model) -> str:
        for node in list(model.graph):
            if (change := learned.get(str(node.name))) is not None:
                _apply(model, node, change)
        before, after = (sum(getattr(one, field) for one in learned.values()) for field in ("nearest_error", "error"))
        gain = f"{10 * np.log10(before / after):.1f} dB less output error of its own" if after > 0 else "no error left"
        return f"{len(learned)} of {len(found)} layers on the grid of {flavour.name}, {gain}"

    return graph.changed("learn rounding", edit)


def _moments(graph: Graph, layers: Sequence[Layer], feeds: Sequence[Feed]) -> Iterator[tuple[Layer, Gram]]:
    """Each layer with the moments of what it reads; layers that read one tensor in the same way share them."""
    nodes = {str(node.name): node for node in graph.model.graph}
    windows = {layer.name: window_of(layer, nodes[layer.name]) for layer in layers}
    for chunk in _chunks(layers):
        grams: dict[tuple[str, Window], Gram] = {}
        for layer in chunk:
            groups, _, size = layer.rows().shape
            grams.setdefault((layer.input, windows[layer.name]), Gram(groups, size))
        for values in observed(graph, [layer.input for layer in chunk], feeds):
            for (name, window), gram in grams.items():
                gram.add(window.patches(values[name], positions_for(gram.size, len(feeds))))
        yield from ((layer, grams[layer.input, windows[layer.name]]) for layer in chunk)


def _chunks(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    chunk: list[Layer] = []
    used = 0
    for layer in layers:
        groups, _, size = layer.rows().shape
        needed = 8 * groups * size * size
        if chunk and used + needed > MOMENT_BYTES:
            yield chunk
            chunk, used = [], 0
        chunk.append(layer)
        used += needed
    if chunk:
        yield chunk


def _learn(layer: Layer, gram: Gram, grid: Grid) -> _Learned:
    weights = layer.rows()
    scales, ends = grid.scales(weights), grid.ends(weights)
    nearest = grid.rounded(weights, scales)
    centred = layer.bias is not None
    moments = gram.matrix(centred=centred)
    steadied = moments + MEAN_SHARE * gram.mean[:, :, None] * gram.mean[:, None, :] if centred else moments
    rounded = _one_after_another(weights, steadied, nearest, ends, grid, scales)
    before, after = _errors(nearest - weights, moments), _errors(rounded - weights, moments)
    # Where the damped moments chose worse than plain rounding, plain rounding it is.
    rounded = np.where((after <= before)[:, :, None], rounded, nearest)
    # The value that sets the scale stays as it is, on the grid or not: the quantizer finds the same scale and rounds it as here.
    kept = np.where(ends, weights, rounded)
    shift = None
    if centred:
        shift = np.einsum("gon,gn->go", weights - rounded, gram.mean).reshape(-1).astype(np.float32)
    plain = _errors(nearest - weights, gram.matrix(centred=False))
    return _Learned(layer.stored(kept), shift, float(plain.sum()), float(np.minimum(after, before).sum()))


def _one_after_another(
    weights: np.ndarray, moments: np.ndarray, nearest: np.ndarray, ends: np.ndarray, grid: Grid, scales: np.ndarray
) -> np.ndarray:
    """GPTQ: (groups, outputs, inputs) on the grid; the ends are rounded to nearest, whatever is to be made up for."""
    size = weights.shape[2]
    diagonal = np.einsum("gnn->gn", moments)
    # Inputs that say most go first, while all others can still make up for them.
    order = np.argsort(-diagonal, axis=1)
    ordered = np.take_along_axis(np.take_along_axis(moments, order[:, :, None], 1), order[:, None, :], 2)
    floor = DAMPING * diagonal.mean(axis=1)
    ordered = ordered + np.where(floor > 0, floor, 1.0)[:, None, None] * np.eye(size)
    upper = np.linalg.cholesky(np.linalg.inv(ordered)).transpose(0, 2, 1)
    # Inputs in front, so that one input's weights lie side by side: (groups, inputs, outputs).
    left, fixed, ends = (np.take_along_axis(array.transpose(0, 2, 1), order[:, :, None], 1) for array in (weights, nearest, ends))
    steps = scales[:, :, 0]
    rounded = np.empty_like(left)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.empty((len(left), stop - start, left.shape[2]))
        for at in range(start, stop):
            value = left[:, at]
            rounded[:, at] = np.where(ends[:, at], fixed[:, at], grid.within(value, steps))
            error = (value - rounded[:, at]) / upper[:, at, at, None]
            left[:, at + 1 : stop] -= upper[:, at, at + 1 : stop, None] * error[:, None, :]
            errors[:, at - start] = error
        left[:, stop:] -= upper[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    result = np.empty_like(rounded)
    np.put_along_axis(result, order[:, :, None], rounded, 1)
    return np.asarray(result.transpose(0, 2, 1))


def _errors(differences: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Mean squared output error of each channel, (groups, outputs), from differences of weights."""
    return np.asarray(np.maximum(np.sum((differences @ moments) * differences, axis=2), 0.0))


def _apply(model: ir.Model, node: ir.Node, change: _Learned) -> None:
    weight, bias = node.inputs[1], bias_of(node)
    if change.shift is not None and bias is not None and (old := constant(bias[1])) is not None:
        set_initializer(model, bias[1], bias[0], (old + change.shift.reshape(old.shape)).astype(np.float32))
    if weight is not None:
        set_initializer(model, weight, node, change.weight)
