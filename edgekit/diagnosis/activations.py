"""What flows through a float model on given inputs, beside what its quantized form can hold of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.diagnosis.quantized_tensors import Rounding
from edgekit.diagnosis.replay import with_outputs
from edgekit.recipe import Arrays
from edgekit_runtime.errors import SessionError
from edgekit_runtime.session import SessionConfig, open_session, short_reason

if TYPE_CHECKING:
    import onnx

__all__ = ["Seen", "behind_clamp", "fits", "watch"]

CLAMPS = frozenset({"Relu", "Clip"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv", "MaxPool", "AveragePool", "GlobalAveragePool"})
# More values than this outside a range, or less of the range in use (one of 8 bits lost), and it is not made for these values.
MOST_OUTSIDE = 1e-3
LEAST_USED = 0.5


@dataclass
class Seen:
    """One tensor's values.

    Attributes:
        low: The smallest.
        high: The largest.
        outside: How many the rounding cannot hold.
        values: How many there are.
        signal: Sum of their squares.
        noise: Sum of the squared errors of rounding them.
        reach: Largest magnitude of each channel.
    """

    low: float = np.inf
    high: float = -np.inf
    outside: int = 0
    values: int = 0
    signal: float = 0.0
    noise: float = 0.0
    reach: np.ndarray | None = None

    def add(self, array: np.ndarray, rounding: Rounding, axis: int) -> None:
        """Takes in one run's values."""
        steps = np.round(array / rounding.scale)
        clipped = np.clip(steps, rounding.least - rounding.zero_point, rounding.most - rounding.zero_point)
        self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))
        self.outside += int((steps != clipped).sum())
        self.values += array.size
        self.signal += float(np.square(array, dtype=np.float64).sum())
        self.noise += float(np.square(clipped * rounding.scale - array, dtype=np.float64).sum())
        if array.ndim > 1:
            axis %= array.ndim
            reach = np.abs(array).max(axis=tuple(other for other in range(array.ndim) if other != axis))
            self.reach = reach if self.reach is None or self.reach.shape != reach.shape else np.maximum(self.reach, reach)

    @property
    def share_outside(self) -> float:
        """Share of the values that saturate."""
        return self.outside / max(self.values, 1)

    @property
    def sqnr_db(self) -> float:
        """Of this rounding by itself."""
        return float(10 * np.log10(max(self.signal, 1e-30) / max(self.noise, 1e-30)))

    @property
    def outlier(self) -> tuple[int, float]:
        """The channel that reaches farthest, and how many times farther than the median one."""
        alive = self.reach[self.reach > 0] if self.reach is not None else np.zeros(0)
        if self.reach is None or alive.size < 3:
            return 0, 1.0
        return int(self.reach.argmax()), float(self.reach.max() / np.median(alive))

    def far_channels(self, times: float) -> list[int]:
        """Channels that reach more than so many times as far as the median one."""
        alive = self.reach[self.reach > 0] if self.reach is not None else np.zeros(0)
        if self.reach is None or alive.size < 3:
            return []
        return [int(channel) for channel in np.flatnonzero(self.reach > times * np.median(alive))]

    def share_used(self, rounding: Rounding) -> float:
        """Share of what the rounding can hold that lies between the smallest and the largest value."""
        span = rounding.high - rounding.low
        return (
            float(np.clip(self.high, rounding.low, rounding.high) - np.clip(min(self.low, 0.0), rounding.low, rounding.high)) / span
        )


def fits(seen: Seen, rounding: Rounding) -> bool:
    """Whether a range is made for these values: next to none outside, and no bit of it wasted."""
    return seen.share_outside <= MOST_OUTSIDE and seen.share_used(rounding) >= LEAST_USED


def watch(
    proto: onnx.ModelProto, roundings: Mapping[str, Rounding], feeds: Sequence[Arrays], folder: Path, threads: int | None = None
) -> dict[str, Seen]:
    """The values of the rounded tensors in the float model, by name.

    A rounding that stands for a clamp as well, as integer ranges do for ReLU, is held against what the clamp gives.

    Raises:
        SessionError: onnxruntime does not run the model with these tensors as outputs.
    """
    import onnx

    sources = {name: behind_clamp(proto, name, roundings) for name in roundings}
    given = {value.name for value in proto.graph.input}
    wanted = list(dict.fromkeys(name for name in sources.values() if name not in given))
    path = folder / f"watched-{len(list(folder.glob('watched-*')))}.onnx"
    onnx.save(with_outputs(proto, wanted), path)
    session = open_session(path, config=SessionConfig(threads=threads)).session
    axes = {name: _channel_axis(proto, name) for name in roundings}
    found = {name: Seen() for name in roundings}
    for feed in feeds:
        try:
            values = dict(zip(wanted, session.run(wanted, dict(feed)), strict=True)) if wanted else {}
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise SessionError(f"watch {path.name}: {short_reason(error)}") from error
        for name, source in sources.items():
            array = values.get(source, feed.get(source))
            if array is not None and array.size and array.dtype.kind == "f":
                found[name].add(array, roundings[name], axes[name])
    return {name: seen for name, seen in found.items() if seen.values}


def behind_clamp(proto: onnx.ModelProto, name: str, roundings: Mapping[str, Rounding]) -> str:
    """The tensor whose values a rounding is made for."""
    takers = [node for node in proto.graph.node if name in node.input]
    if len(takers) == 1 and takers[0].op_type in CLAMPS and takers[0].output[0] not in roundings:
        return str(takers[0].output[0])
    return name


def _channel_axis(proto: onnx.ModelProto, name: str) -> int:
    """Axis 1 beside convolutions, or one node away from them; the last one elsewhere."""
    takers = [node for node in proto.graph.node if name in node.input]
    makers = [node for node in proto.graph.node if name in node.output]
    given = {value for node in takers for value in node.output}
    taken = {value for node in makers for value in node.input}
    near = [node for node in proto.graph.node if given.intersection(node.input) or taken.intersection(node.output)]
    return 1 if CONVOLUTIONS.intersection(node.op_type for node in (*takers, *makers, *near)) else -1
