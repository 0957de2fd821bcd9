"""Renamed axes: what shape a value has behind a node that changes no element and no order of elements.

Axes are numbers, or names of free axes; an axis that a Reshape makes of several, one of them free, gets a name that tells of what
it is the product.
"""

from collections import Counter
from collections.abc import Callable
from math import prod

import onnx_ir as ir

from edgekit_export.rewiring import constant

__all__ = ["Axes", "axes_of", "renamed"]

Axes = tuple[int | str, ...]
# Slices to the end are exported as slices to one of these, or to a little less.
ENDLESS = 2**31 - 1


def axes_of(value: ir.Value | None) -> Axes | None:
    """A value's axes; ``None`` where one has neither a length nor a name.

    Declared outputs are not believed: exporters write the example's lengths there.
    """
    if value is None or value.shape is None or constant(value) is not None or value.is_graph_output():
        return None
    axes = tuple(axis if isinstance(axis, int) else axis.value for axis in value.shape)
    return None if any(axis is None for axis in axes) else tuple(axis for axis in axes if axis is not None)


def renamed(node: ir.Node, axes: Axes) -> Axes | None:
    """The axes behind a node, where it only renames; ``None`` where it computes, moves or drops anything, or cannot be told."""
    rename = RENAMES.get(node.op_type)
    return rename(node, axes) if rename is not None and node.domain in ("", "ai.onnx") and len(node.outputs) == 1 else None


def _identity(_: ir.Node, axes: Axes) -> Axes:
    return axes


def _transpose(node: ir.Node, axes: Axes) -> Axes | None:
    order = list(node.attributes.get_ints("perm", None) or reversed(range(len(axes))))
    kept = [axis for axis in order if axes[axis] != 1]
    return tuple(axes[axis] for axis in order) if kept == sorted(kept) else None


def _unsqueeze(node: ir.Node, axes: Axes) -> Axes | None:
    new = _integers(node, 1)
    if new is None:
        return None
    rank = len(axes) + len(new)
    places, rest = {place % rank for place in new}, iter(axes)
    return tuple(1 if place in places else next(rest) for place in range(rank))


def _squeeze(node: ir.Node, axes: Axes) -> Axes | None:
    gone = _integers(node, 1)
    if gone is None:
        return None
    places = {place % len(axes) for place in gone}
    return tuple(axis for place, axis in enumerate(axes) if place not in places) if _only_ones(axes, places) else None


def _gather(node: ir.Node, axes: Axes) -> Axes | None:
    index = constant(node.inputs[1])
    place = node.attributes.get_int("axis", 0) % max(len(axes), 1)
    if index is None or index.size != 1 or not axes or axes[place] != 1:
        return None
    return (*axes[:place], *(1 for _ in index.shape), *axes[place + 1 :])


def _slice(node: ir.Node, axes: Axes) -> Axes | None:
    """The same axes, where a slice takes everything."""
    starts, ends = _integers(node, 1), _integers(node, 2)
    if starts is None or ends is None:
        return None
    places = _integers(node, 3) if len(node.inputs) > 3 and node.inputs[3] is not None else list(range(len(starts)))
    steps = _integers(node, 4) if len(node.inputs) > 4 and node.inputs[4] is not None else [1] * len(starts)
    if places is None or steps is None or any(step != 1 for step in steps):
        return None
    whole = [_whole(axes[place % len(axes)], start, end) for place, start, end in zip(places, starts, ends, strict=True)]
    return axes if all(whole) else None


def _whole(length: int | str, start: int, end: int) -> bool:
    if isinstance(length, str):
        return start == 0 and end >= ENDLESS
    return (start == 0 or start <= -length) and end >= length


def _flatten(node: ir.Node, axes: Axes) -> Axes:
    place = node.attributes.get_int("axis", 1)
    place = place + len(axes) if place < 0 else place
    return _product(axes[:place]), _product(axes[place:])


def _reshape(node: ir.Node, axes: Axes) -> Axes | None:
    target = _integers(node, 1)
    literal = node.attributes.get_int("allowzero", 0) == 1
    if target is None or (0 in target and literal):
        return None
    if any(length == 0 and place >= len(axes) for place, length in enumerate(target)):
        return None
    known = [axes[place] if length == 0 else length for place, length in enumerate(target)]
    if -1 not in target:
        return tuple(known)
    rest = _quotient(axes, [axis for axis in known if axis != -1])
    return None if rest is None else tuple(rest if axis == -1 else axis for axis in known)


def _quotient(whole: Axes, part: list[int | str]) -> int | str | None:
    """What is left of a product of axes; ``None`` where a name is not in it, or the numbers do not divide."""
    names = Counter(axis for axis in whole if isinstance(axis, str))
    taken = Counter(axis for axis in part if isinstance(axis, str))
    length, divisor = (prod(axis for axis in axes if isinstance(axis, int)) for axes in (whole, part))
    if taken - names or not divisor:
        return None
    left = sorted((names - taken).elements())
    if not left:
        return length // divisor if length % divisor == 0 else None
    if length == divisor:
        return "*".join(left)
    return f"{'*'.join(left)}*{length}/{divisor}"


def _product(axes: Axes) -> int | str:
    left = _quotient(axes, [])
    assert left is not None  # nothing is taken
    return left


def _only_ones(axes: Axes, places: set[int]) -> bool:
    return all(axes[place] == 1 for place in places)


def _integers(node: ir.Node, index: int) -> list[int] | None:
    """A constant input as integers."""
    array = constant(node.inputs[index]) if len(node.inputs) > index else None
    return None if array is None else [int(value) for value in array.reshape(-1)]


RENAMES: dict[str, Callable[[ir.Node, Axes], Axes | None]] = {
    "Identity": _identity,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Gather": _gather,
    "Slice": _slice,
    "Flatten": _flatten,
    "Reshape": _reshape,
}
