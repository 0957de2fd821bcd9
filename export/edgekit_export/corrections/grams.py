"""Second moments of what a layer reads, which is all that its output error depends on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgekit_export.corrections.layers import Layer

__all__ = ["Gram", "Window", "positions_for", "window_of"]

# Neighbouring positions of an image say much the same; this many of each example are enough, and fewer where there are many
# examples for few inputs: moments of n inputs settle with some multiple of n positions in all.
POSITIONS = 1024
FEWEST_POSITIONS = 128
POSITIONS_AN_INPUT = 64


def positions_for(size: int, examples: int) -> int:
    """How many positions of each example to look at, for a layer of `size` inputs."""
    wanted = -(-POSITIONS_AN_INPUT * size // max(examples, 1))
    return min(max(wanted, FEWEST_POSITIONS), POSITIONS)


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution over its spatial axes; a product has none.

    Attributes:
        kernel: Size along each axis.
        strides: Steps along each axis.
        dilations: Distances between taps along each axis.
        pads: Zeros before and after, as (before, after) along each axis; ``None`` to place them as ``auto_pad`` says.
        auto_pad: ``SAME_UPPER`` or ``SAME_LOWER``, or ``NOTSET``.
        groups: Groups of channels.
    """

    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    auto_pad: str = "NOTSET"
    groups: int = 1

    def patches(self, values: np.ndarray, most: int = POSITIONS) -> np.ndarray:
        """What each output position reads: (groups, inputs a group × kernel, positions), at most `most` of them.

        Args:
            values: (batch, channels, space …) for a convolution, (…, channels) for a product.
            most: Positions, evenly spread.
        """
        if not self.kernel:
            rows = values.reshape(-1, values.shape[-1])
            return np.ascontiguousarray(_thinned(rows, most).T)[None]
        padded = np.pad(values, [(0, 0), (0, 0), *self._pads(values.shape[2:])])
        span = tuple(distance * (size - 1) + 1 for distance, size in zip(self.dilations, self.kernel, strict=True))
        space = tuple(range(2, 2 + len(self.kernel)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=space)
        steps = (slice(None, None, step) for step in self.strides)
        taps = (slice(None, None, distance) for distance in self.dilations)
        picks: tuple[slice, ...] = (slice(None), slice(None), *steps, *taps)
        windows = windows[picks]
        batch, channels = windows.shape[:2]
        count = int(np.prod(windows.shape[2 : 2 + len(space)]))
        kept = np.arange(count)[:: -(-count // max(1, most // batch))]
        where = np.unravel_index(kept, windows.shape[2 : 2 + len(space)])
        taken: tuple[Any, ...] = (slice(None), slice(None), *where)
        # (batch, channels, positions, *kernel) → (groups, channels a group, *kernel, batch, positions)
        picked = windows[taken].reshape(batch, channels, len(kept), -1)
        ordered = picked.transpose(1, 3, 0, 2).reshape(self.groups, channels // self.groups * picked.shape[3], -1)
        return np.ascontiguousarray(ordered)

    def _pads(self, space: Sequence[int]) -> list[tuple[int, int]]:
        if self.auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
            return list(self.pads)
        pads = []
        for size, kernel, stride, dilation in zip(space, self.kernel, self.strides, self.dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if self.auto_pad == "SAME_UPPER" else (more, less))
        return pads


def window_of(layer: Layer, node: ir.Node) -> Window:
    """The geometry of a layer's node."""
    if layer.operator != "Conv":
        return Window()
    attributes = node.attributes
    rank = layer.values.ndim - 2
    pads = list(attributes.get_ints("pads", [0] * 2 * rank))
    return Window(
        kernel=tuple(layer.values.shape[2:]),
        strides=tuple(attributes.get_ints("strides", [1] * rank)),
        dilations=tuple(attributes.get_ints("dilations", [1] * rank)),
        pads=tuple(zip(pads[:rank], pads[rank:], strict=True)),
        auto_pad=attributes.get_string("auto_pad", "NOTSET"),
        groups=layer.groups,
    )


class Gram:
    """Sums of products of what a layer reads, over all positions of all examples.

    Args:
        groups: Groups of channels.
        size: Inputs a group × kernel.
    """

    def __init__(self, groups: int, size: int) -> None:
        self._products = np.zeros((groups, size, size))
        self._sums = np.zeros((groups, size))
        self._count = 0

    @property
    def size(self) -> int:
        """Inputs a group × kernel."""
        return int(self._sums.shape[1])

    def add(self, patches: np.ndarray) -> None:
        """Adds (groups, size, positions)."""
        self._products += patches @ patches.transpose(0, 2, 1)
        self._sums += patches.sum(axis=2, dtype=np.float64)
        self._count += patches.shape[2]

    @property
    def mean(self) -> np.ndarray:
        """Mean of each input: (groups, size)."""
        return self._sums / max(self._count, 1)

    def matrix(self, *, centred: bool) -> np.ndarray:
        """Mean products, (groups, size, size): of the inputs, or of what is left of them without their means."""
        products = self._products / max(self._count, 1)
        return products - self.mean[:, :, None] * self.mean[:, None, :] if centred else products


def _thinned(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[:: -(-len(rows) // most)] if len(rows) > most else rows
