"""Checks of a layer's arguments that name the layer, what came and what was expected.

The checks inside ``forward`` read only the rank and the width of the features. Both are static while torch.export
traces, so that batch and position axes stay free.
"""

from __future__ import annotations

from torch import Tensor


def require_positive(layer: str, **sizes: object) -> None:
    """Check that every size is an integer of at least one.

    Args:
        layer: Name of the layer, for the message.
        **sizes: The arguments by name.

    Raises:
        TypeError: A size is not an integer (a bool is not one here).
        ValueError: A size is less than one.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{layer}: {name} must be an integer, got {size!r} ({type(size).__name__})")
        if size < 1:
            raise ValueError(f"{layer}: {name} must be at least 1, got {size}")


def require_features(layer: str, name: str, value: Tensor, width: int, *, leading: str, rank: int = 1) -> None:
    """Check that a tensor has floating-point features of the expected width on its last axis.

    Args:
        layer: Name of the layer, for the message.
        name: Name of the argument, for the message.
        value: The tensor that came, (..., width) where all is well.
        width: The expected size of the last axis.
        leading: The whole expected shape in words, for the message.
        rank: The least number of axes.

    Raises:
        TypeError: The argument is not a floating-point tensor.
        ValueError: The rank or the width is wrong.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{layer}: {name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{layer}: {name} must be floating point, got {value.dtype}; convert it with {name}.float()")
    if value.dim() < rank or value.shape[-1] != width:
        raise ValueError(
            f"{layer}: {name} must have shape {leading} with {width} features on the last axis, "
            f"got {tuple(value.shape)}"
        )
