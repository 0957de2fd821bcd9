"""Cross-layer equalization: factors for each channel move between layers, so that no channel spoils the scale of the others.

Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction* (arXiv:1906.04721, section 4.1), do it for
pairs of layers by their weights. Here the factors go through whole channel groups, residual additions among them; and where
maxima of activations are known, these count: a weight has a scale for each of its output channels already, an activation has
one for all, so it is the activations' channels that gain. A depthwise convolution takes any factor for nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgekit_export.corrections.channel_groups import ChannelGroup, channel_groups, scale_group, unclip_group
from edgekit_export.corrections.layers import Layer
from edgekit_export.graph import Graph

__all__ = ["equalize"]

SWEEPS = 30
# Factors that differ from one by less than this change nothing that a quantizer would see.
SETTLED = 1e-3
# No channel is scaled by more: one that was all but silent in calibration may speak up later.
LARGEST_FACTOR = 64.0
# A clip is taken for idle where calibration came no nearer to its bound than this: other data reaches further.
HEADROOM = 2.0


def equalize(graph: Graph, maxima: Mapping[str, np.ndarray] | None = None, *, strength: float = 0.5) -> Graph:
    """The graph with its channels equalized; it computes the same.

    Ranges from calibration do not hold any more: calibrate anew.

    Without `maxima`, weights alone count: each channel gets the same range in the layers before and after it. That is for schemes
    with one scale for a whole weight. With `maxima`, ranges of activations count.

    A clip at a value above zero, as ReLU6, does not let factors pass, so its group is left alone. Only where `maxima` show that
    no channel came nearer than half-way to the bound, the clip becomes a ReLU and the group takes part.

    Args:
        graph: A prepared graph: batch normalizations folded, constants as initializers.
        maxima: From `channel_maxima` on this graph.
        strength: How much of an activation's spread moves into the weights of dense layers behind it, 0 to 1.
    """

    def edit(model: ir.Model) -> str | None:
        groups = channel_groups(model)
        done = _by_activations(model, groups, maxima, strength) if maxima is not None else _by_weights(model, groups)
        return f"{done} of {len(groups)} channel groups" if done else None

    return graph.changed("equalize", edit)


def _by_weights(model: ir.Model, groups: Sequence[ChannelGroup]) -> int:
    free = [group for group in groups if not group.clips]
    spans = {layer.name: np.abs(layer.rows()) for group in free for layer in (*group.givers, *group.readers)}
    factors = [np.ones(_channels(group)) for group in free]
    for _ in range(SWEEPS):
        moved = 0.0
        for group, total in zip(free, factors, strict=True):
            given = _widest([_outputs(spans[layer.name]) for layer in group.givers])
            read = _widest([_inputs(spans[layer.name], layer) for layer in group.readers])
            alive = (given > 0) & (read > 0)
            factor = np.where(alive, np.sqrt(np.where(alive, given, 1.0) / np.where(alive, read, 1.0)), 1.0)
            for layer in group.givers:
                spans[layer.name] = spans[layer.name] / factor.reshape(layer.groups, -1, 1)
            for layer in group.readers:
                spans[layer.name] = spans[layer.name] * _along_inputs(factor, layer)
            total *= factor
            moved = max(moved, float(np.abs(np.log(factor)).max()))
        if moved < SETTLED:
            break
    done = 0
    for group, factor in zip(free, factors, strict=True):
        if np.abs(np.log(factor)).max() > SETTLED:
            scale_group(model, group, factor)
            done += 1
    return done


def _by_activations(model: ir.Model, groups: Sequence[ChannelGroup], maxima: Mapping[str, np.ndarray], strength: float) -> int:
    done = 0
    for group in groups:
        read = {layer.input for layer in group.readers}
        if not read <= maxima.keys() or not all(_idle(name, bound, maxima) for name, bound in group.clips.items()):
            continue
        largest = _widest([np.asarray(maxima[name], np.float64) for name in sorted(read)])
        weights = _widest([_inputs(np.abs(layer.rows()), layer) for layer in group.readers])
        alive = (largest > 0) & (weights > 0)
        if not alive.any():
            continue
        share = 1.0 if all(layer.depthwise for layer in group.readers) else strength
        factor = np.where(alive, largest, 1.0) ** share / np.where(alive, weights, 1.0) ** (1.0 - share)
        factor = np.where(alive, factor / np.exp(np.log(factor[alive]).mean()), 1.0)
        factor = np.clip(factor, 1.0 / LARGEST_FACTOR, LARGEST_FACTOR)
        if np.abs(np.log(factor)).max() > SETTLED:
            unclip_group(model, group)
            scale_group(model, group, factor)
            done += 1
    return done


def _idle(name: str, bound: float, maxima: Mapping[str, np.ndarray]) -> bool:
    """Whether a clip's output stayed far from the bound."""
    return name in maxima and float(np.max(maxima[name], initial=0.0)) * HEADROOM <= bound


def _channels(group: ChannelGroup) -> int:
    return group.givers[0].outputs


def _widest(spans: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.max(np.stack(spans), axis=0))


def _outputs(rows: np.ndarray) -> np.ndarray:
    """Largest of each output channel: (outputs,) from (groups, outputs a group, inputs a group × kernel)."""
    return np.asarray(rows.max(axis=2)).reshape(-1)


def _inputs(rows: np.ndarray, layer: Layer) -> np.ndarray:
    """Largest of each input channel: (inputs,)."""
    return np.asarray(rows.reshape(*rows.shape[:2], _inputs_a_group(layer), -1).max(axis=(1, 3))).reshape(-1)


def _along_inputs(factor: np.ndarray, layer: Layer) -> np.ndarray:
    """Factors of input channels, for rows: (groups, 1, inputs a group × kernel)."""
    size = layer.rows().shape[2]
    each = _inputs_a_group(layer)
    return np.repeat(factor.reshape(layer.groups, 1, each), size // each, axis=2)


def _inputs_a_group(layer: Layer) -> int:
    return int(layer.values.shape[0 if layer.transposed else 1])
