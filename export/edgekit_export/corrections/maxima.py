"""How far each channel of the tensors that layers read goes."""

from collections.abc import Iterable

import numpy as np

from edgekit_export.calibration.checked_feeds import Feed
from edgekit_export.calibration.observe import observed
from edgekit_export.corrections.layers import layers_of
from edgekit_export.graph import Graph

__all__ = ["channel_maxima"]


def channel_maxima(graph: Graph, feeds: Iterable[Feed]) -> dict[str, np.ndarray]:
    """Largest absolute value of each channel, (channels,), of every tensor that a Conv, Gemm or MatMul with a weight reads.

    Channels are axis 1 where a Conv reads, and the last axis where a product does.

    Raises:
        CalibrationError: A feed does not fit, or cannot be run.
    """
    axes = {layer.input: layer.channel_axis for layer in layers_of(graph)}
    found: dict[str, np.ndarray] = {}
    if not axes:
        return found
    for values in observed(graph, list(axes), feeds):
        for name, array in values.items():
            others = tuple(axis for axis in range(array.ndim) if axis != axes[name] % array.ndim)
            largest = np.abs(array).max(axis=others, initial=0.0)
            found[name] = np.maximum(found[name], largest) if name in found else largest
    return found
