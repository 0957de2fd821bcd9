"""Channels: which slices of which parameters must go together, followed through the graph.

Every index of a parameter's channel axes is a cell. Operators tie cells together: a residual add ties the channels of both its
inputs, a depthwise convolution those that come in to those that go out, a flatten ties each channel to all positions that it
spreads over. A set of tied cells is a *channel*: all of its slices can be removed at once, and the rest computes what it did
with that channel silenced. These are the dependency groups of Fang et al., *DepGraph: Towards Any Structural Pruning*
(arXiv:2301.12900), at the granularity of single indices, so that concatenations need no case of their own.

What no rule knows (a LayerNorm over the channels, heads cut out of a Linear's output, anything at the outputs) fixes the
channels that reach it: they cannot be removed. That is the safe side of not knowing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

__all__ = ["NONE", "Axis", "Cells", "Channel", "Work"]

NONE = -1
"""The cell of an index that belongs to no channel: batch, time, height, a class."""

Axis = tuple[str, int]
"""A parameter's name and one of its axes."""


@dataclass(frozen=True)
class Channel:
    """Slices that can only be removed together.

    Attributes:
        slices: Indices by parameter and axis.
    """

    slices: dict[Axis, tuple[int, ...]]

    @property
    def group(self) -> tuple[Axis, ...]:
        """The parameters' axes that it runs through; channels of one group are alike."""
        return tuple(sorted(self.slices))


@dataclass(frozen=True)
class Work:
    """Multiply-adds of one operator for one example: a constant times the channels that run through it.

    Attributes:
        name: The weight's name, or the operator's.
        constant: What no channel changes, such as kernel and image size.
        axes: Cells of each axis that may shrink.
    """

    name: str
    constant: int
    axes: tuple[np.ndarray, ...]


@dataclass
class Cells:
    """Cells of all parameters, and which are tied: a union-find with path halving.

    Attributes:
        axes: Cells of each parameter's axis, in order.
        work: Multiply-adds of the operators.
    """

    axes: dict[Axis, np.ndarray] = field(default_factory=dict)
    work: list[Work] = field(default_factory=list)
    _parent: list[int] = field(default_factory=list)
    _fixed: set[int] = field(default_factory=set)

    def of(self, parameter: str, axis: int, size: int) -> np.ndarray:
        """Cells of a parameter's axis, (size,), made where it has none."""
        key = (parameter, axis)
        if key not in self.axes:
            first = len(self._parent)
            self._parent.extend(range(first, first + size))
            self.axes[key] = np.arange(first, first + size)
        return self.axes[key]

    def tie(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Ties cells one by one; those that meet no channel are fixed. Gives the tied cells."""
        if one.shape != other.shape:
            self.fix(one, other)
            return one
        for left, right in zip(one.tolist(), other.tolist(), strict=True):
            if left == NONE or right == NONE:
                self._fix(left)
                self._fix(right)
            else:
                self._parent[self._root(left)] = self._root(right)
        return np.where(one == NONE, other, one)

    def fix(self, *cells: np.ndarray) -> None:
        """Makes channels stay."""
        for array in cells:
            for cell in np.unique(array).tolist():
                self._fix(cell)

    def channels(self) -> list[Channel]:
        """What can be removed, in the order of the parameters."""
        fixed = {self._root(cell) for cell in self._fixed}
        slices: dict[int, dict[Axis, list[int]]] = {}
        for axis, cells in self.axes.items():
            for index, cell in enumerate(cells.tolist()):
                root = self._root(cell)
                if root not in fixed:
                    slices.setdefault(root, {}).setdefault(axis, []).append(index)
        return [Channel({axis: tuple(found) for axis, found in parts.items()}) for parts in slices.values()]

    def multiply_adds(self, removed: Iterable[Channel] = ()) -> int:
        """Multiply-adds of one example without some channels."""
        gone = {int(self.axes[axis][index]) for channel in removed for axis, found in channel.slices.items() for index in found}
        gone = {self._root(cell) for cell in gone}
        dead = np.array([self._root(cell) in gone for cell in range(len(self._parent))] + [False])  # the last is for NONE
        total = 0
        for work in self.work:
            product = work.constant
            for cells in work.axes:
                product *= int((~dead[cells]).sum())
            total += product
        return total

    def _fix(self, cell: int) -> None:
        if cell != NONE:
            self._fixed.add(cell)

    def _root(self, cell: int) -> int:
        while self._parent[cell] != cell:
            self._parent[cell] = self._parent[self._parent[cell]]
            cell = self._parent[cell]
        return cell
