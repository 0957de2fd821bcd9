"""How channels run through operators that only move numbers about: reshapes, transposes, slices, concatenations, pooling.

A rule gets the cells of a tensor's axes and gives those of the result. An axis is an array of cells, one an index, or ``None``
where its size is free.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import fx

from edgekit_export.training.captured import operator_name, shape_of
from edgekit_export.training.channels import NONE, Cells

__all__ = ["RULES", "TensorCells", "blank", "broadcast", "fix_all"]

TensorCells = list[np.ndarray | None]
"""Cells of a tensor's axes."""

Rule = Callable[[Cells, fx.Node, list[TensorCells]], TensorCells]
"""``(cells, node, its tensor inputs) -> its result``."""


def blank(shape: Sequence[Any]) -> TensorCells:
    """Axes that no channel runs along."""
    return [np.full(size, NONE) if isinstance(size, int) else None for size in shape]


def fix_all(cells: Cells, tensors: Sequence[TensorCells]) -> None:
    """Makes all channels of some tensors stay."""
    for tensor in tensors:
        cells.fix(*(axis for axis in tensor if axis is not None))


def broadcast(cells: Cells, tensors: Sequence[TensorCells]) -> TensorCells:
    """Elementwise operators: channels at one place are tied."""
    result: TensorCells = []
    for place in range(max(map(len, tensors))):
        here = [tensor[-1 - place] for tensor in tensors if place < len(tensor)]
        wide = [axis for axis in here if axis is None or len(axis) > 1] or here[:1]
        cells.fix(*(axis for axis in here if axis is not None and not any(axis is other for other in wide)))
        known = [axis for axis in wide if axis is not None]
        if len(known) < len(wide):  # against an axis of free size
            cells.fix(*known)
            result.append(None)
            continue
        tied = known[0]
        for axis in known[1:]:
            tied = cells.tie(tied, axis)
        result.append(tied)
    return result[::-1]


def _elementwise(cells: Cells, _: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    return broadcast(cells, tensors)


def _reduction(cells: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    """``mean``, ``sum`` and the like over some axes; their channels stay."""
    (tensor,) = tensors
    given = node.args[1] if len(node.args) > 1 else None
    listed = [given] if isinstance(given, int) else list(given) if isinstance(given, (list, tuple)) else []
    gone = {axis % len(tensor) for axis in listed} or set(range(len(tensor)))
    shape = shape_of(node) or ()
    for axis in gone:
        fix_all(cells, [[tensor[axis]]])
    if len(shape) == len(tensor):
        return [np.array([NONE]) if axis in gone else array for axis, array in enumerate(tensor)]
    return [array for axis, array in enumerate(tensor) if axis not in gone]


def _spatial(cells: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    """Pooling and resizing: what lies behind the channels changes its size."""
    (tensor,) = tensors
    spatial = 1 if "1d" in operator_name(node) else 2
    fix_all(cells, [tensor[-spatial:]])
    return [*tensor[:-spatial], *blank((shape_of(node) or ())[-spatial:])]


def _padding(cells: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    (tensor,) = tensors
    shape = blank(shape_of(node) or ())
    amounts: Any = node.args[1]
    for index in range(len(amounts) // 2):
        if any(amounts[2 * index : 2 * index + 2]):
            fix_all(cells, [[tensor[-1 - index]]])
            tensor = [*tensor]
            tensor[-1 - index] = shape[-1 - index]
    return tensor


def _transpose(_: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    (tensor,) = tensors
    one, other = (node.args[1], node.args[2]) if len(node.args) > 2 else (0, 1)
    order = list(range(len(tensor)))
    order[one], order[other] = order[other], order[one]  # type: ignore[index]  # axes are ints in the graph
    return [tensor[axis] for axis in order]


def _permute(_: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    (tensor,) = tensors
    order: Any = node.args[1]
    return [tensor[axis] for axis in order]


def _slice(cells: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    (tensor,) = tensors
    axis: Any = node.args[1] if len(node.args) > 1 else 0
    before, after = tensor[axis], (shape_of(node) or ())[axis]
    if before is None or after == len(before):
        return tensor
    fix_all(cells, [[before]])
    result = [*tensor]
    result[axis] = blank([after])[0]
    return result


def _select(cells: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    (tensor,) = tensors
    axis: Any = node.args[1]
    fix_all(cells, [[tensor[axis]]])
    return [array for index, array in enumerate(tensor) if index != axis % len(tensor)]


def _concatenation(cells: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    axis: Any = node.args[1] if len(node.args) > 1 else 0
    axis %= len(tensors[0])
    result: TensorCells = []
    for place in range(len(tensors[0])):
        here = [tensor[place] for tensor in tensors]
        known = [array for array in here if array is not None]
        if place != axis:
            result.append(broadcast(cells, [[array] for array in here])[0])
        elif len(known) < len(here):
            cells.fix(*known)
            result.append(None)
        else:
            result.append(np.concatenate(known))
    return result


def _softmax(cells: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    (tensor,) = tensors
    axis: Any = node.args[1]
    fix_all(cells, [[tensor[axis]]])
    return tensor


def _reshape(cells: Cells, node: fx.Node, tensors: list[TensorCells]) -> TensorCells:
    """Views: axes that stay carry their channels on; merged ones spread them, where the size is not written into the code."""
    (tensor,) = tensors
    before = shape_of(node.args[0]) if isinstance(node.args[0], fx.Node) else None
    after = shape_of(node)
    if before is None or after is None:
        fix_all(cells, tensors)
        return blank(after or ())
    sizes: Any = node.args[1] if operator_name(node) in ("view", "reshape") else ()
    result: TensorCells = []
    for old, new in _blocks(before, after):
        block = [tensor[axis] for axis in old]
        if len(new) == 1:
            free = not sizes or sizes[new[0]] == -1
            merged = _merged(block, spread=free)
            if merged is not None:
                result.append(merged)
                continue
            if len(old) == 1 and block[0] is None:
                result.append(None)
                continue
        fix_all(cells, [block])
        result += blank([after[axis] for axis in new])
    return result


def _blocks(before: Sequence[Any], after: Sequence[Any]) -> list[tuple[list[int], list[int]]]:
    """Axes of both shapes in the smallest blocks of equal size, in order; all in one where free sizes do not match up."""
    blocks: list[tuple[list[int], list[int]]] = []
    one = other = 0
    while one < len(before) or other < len(after):
        old: list[int] = []
        new: list[int] = []
        left = right = 1
        if one < len(before) and other < len(after) and not _both_ints(before[one], after[other]):
            if str(before[one]) != str(after[other]):
                return [*blocks, (list(range(one, len(before))), list(range(other, len(after))))]
            blocks.append(([one], [other]))
            one, other = one + 1, other + 1
            continue
        while True:
            if left <= right and one < len(before) and isinstance(before[one], int) and (left < right or not old):
                left *= before[one]
                old.append(one)
                one += 1
            elif right <= left and other < len(after) and isinstance(after[other], int) and (right < left or not new):
                right *= after[other]
                new.append(other)
                other += 1
            else:
                break
        if left != right or not (old or new):
            return [*blocks, ([*old, *range(one, len(before))], [*new, *range(other, len(after))])]
        blocks.append((old, new))
    return blocks


def _both_ints(one: Any, other: Any) -> bool:
    return isinstance(one, int) and isinstance(other, int)


def _merged(block: TensorCells, *, spread: bool) -> np.ndarray | None:
    """Cells of axes that become one; ``None`` where several carry channels, or where they may not spread."""
    known = [axis for axis in block if axis is not None]
    if len(known) < len(block):
        return None
    if not known:
        return np.array([NONE])
    wide = [axis for axis in known if len(axis) > 1]
    carrying = [index for index, axis in enumerate(known) if (axis != NONE).any()]
    if len(carrying) > 1 or (len(wide) > 1 and carrying and not spread):
        return None
    shape = [len(axis) for axis in known]
    if not carrying:
        return np.full(int(np.prod(shape)), NONE)
    (axis,) = carrying
    return np.broadcast_to(known[axis].reshape([-1 if index == axis else 1 for index in range(len(shape))]), shape).ravel().copy()


ELEMENTWISE = (
    "relu",
    "relu6",
    "hardswish",
    "hardtanh",
    "hardsigmoid",
    "sigmoid",
    "silu",
    "gelu",
    "tanh",
    "elu",
    "leaky_relu",
    "mish",
    "softplus",
    "clamp",
    "clamp_min",
    "clamp_max",
    "dropout",
    "feature_dropout",
    "contiguous",
    "clone",
    "neg",
    "abs",
    "sqrt",
    "rsqrt",
    "exp",
    "log",
    "erf",
    "to",
    "_to_copy",
    "detach",
    "alias",
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "pow",
    "square",
)
SPATIAL = (
    "max_pool1d",
    "max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "upsample_nearest2d",
    "upsample_bilinear2d",
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduction),
    **dict.fromkeys(SPATIAL, _spatial),
    **dict.fromkeys(("pad", "constant_pad_nd"), _padding),
    **dict.fromkeys(("transpose", "t"), _transpose),
    "permute": _permute,
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze"), _reshape),
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(("cat", "concat"), _concatenation),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
}
"""Operators that are known, by ATen's names; all others fix the channels that reach them."""
