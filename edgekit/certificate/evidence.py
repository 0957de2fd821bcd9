"""What one place's outputs say beside others: how many steps away they are, where their largest values are, what was fused."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.recipe import Arrays

__all__ = ["LSB_BINS", "argmax_agreement", "fusion", "lsb_histogram", "output_steps"]

# The last distance that each bin holds; one more bin holds the rest.
LSB_BINS = {"0": 0, "1": 1, "2": 2, "3-4": 4, "5-8": 8}
BEYOND = ">8"
STEPS = 255
# Distances are quotients of floats: 1 LSB may come out as 0.9999.
HALF = 0.5


def output_steps(model: Path, reference: Sequence[Arrays]) -> dict[str, float]:
    """The step of each float output: its quantization's, or 1/255 of its range where it has none or one a channel.

    Args:
        model: The ``.onnx`` file.
        reference: Outputs, for their ranges.
    """
    import onnx

    from edgekit.inspection.wiring import Wiring

    proto = onnx.load(model, load_external_data=False)
    makers = Wiring(proto).makers
    scales = {one.name: one for one in proto.graph.initializer if one.data_location != onnx.TensorProto.EXTERNAL}
    steps: dict[str, float] = {}
    for name, first in reference[0].items():
        if first.dtype.kind != "f":
            continue
        maker = makers.get(name)
        stored = scales.get(maker.input[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None
        scale = onnx.numpy_helper.to_array(stored) if stored is not None else None
        if scale is not None and scale.size == 1:
            steps[name] = float(scale.ravel()[0])
        else:
            values = np.concatenate([np.asarray(one[name], np.float64).ravel() for one in reference])
            values = values[np.isfinite(values)]
            span = float(np.ptp(values)) if values.size else 0.0
            steps[name] = span / STEPS if span else 1.0
    return steps


def lsb_histogram(outputs: Sequence[Arrays], reference: Sequence[Arrays], steps: Mapping[str, float]) -> dict[str, int]:
    """How many output values are how many steps from the reference's; NaN and other shapes count as far away.

    Args:
        outputs: A place's, one dict a feed.
        reference: What integer arithmetic gives without saturation, on the same feeds.
        steps: Of each output that counts.
    """
    counts = dict.fromkeys((*LSB_BINS, BEYOND), 0)
    for got, expected in zip(outputs, reference, strict=True):
        for name, step in steps.items():
            left, right = np.asarray(got[name], np.float64), np.asarray(expected[name], np.float64)
            if left.shape != right.shape:
                counts[BEYOND] += right.size
                continue
            with np.errstate(invalid="ignore"):
                distance = np.where(left == right, 0.0, np.abs(left - right) / step)
            distance = np.where(np.isnan(distance), np.inf, distance)
            low = -1.0
            for label, last in LSB_BINS.items():
                counts[label] += int(np.count_nonzero((distance > low) & (distance <= last + HALF)))
                low = last + HALF
            counts[BEYOND] += int(np.count_nonzero(distance > low))
    return counts


def argmax_agreement(outputs: Sequence[Arrays], reference: Sequence[Arrays]) -> float | None:
    """Share of the first float output's vectors, along its last axis, whose largest element is where the reference's is.

    Returns:
        A share between 0 and 1; ``None`` where that output has no vectors of two elements or more.
    """
    name = next((name for name, first in reference[0].items() if first.dtype.kind == "f"), None)
    if name is None:
        return None
    same = total = 0
    for got, expected in zip(outputs, reference, strict=True):
        left, right = np.asarray(got[name]), np.asarray(expected[name])
        if right.ndim == 0 or right.shape[-1] < 2:
            return None
        wanted = right.argmax(axis=-1)
        total += wanted.size
        if left.shape == right.shape:
            same += int(np.count_nonzero(left.argmax(axis=-1) == wanted))
    return same / total if total else None


def fusion(optimized: bytes) -> tuple[int, int]:
    """Of a graph as it was optimized somewhere: Q/DQ nodes left between operators, and nodes that compute with integers.

    Args:
        optimized: The serialized graph.
    """
    import onnx

    from edgekit.inspection.quantization import is_integer_operator
    from edgekit.inspection.surviving_qdq import find_surviving_qdq
    from edgekit.inspection.wiring import Wiring

    wiring = Wiring(onnx.load_model_from_string(optimized))
    return find_surviving_qdq(wiring).inside, sum(is_integer_operator(node) for node in wiring.nodes)
