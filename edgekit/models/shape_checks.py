"""Checks of a layer's arguments that name the layer, what came and what was expected.

Ranks and the width of the features are static while torch.export traces, so checking them leaves batch and position
axes free. What would read a free axis is checked in eager mode only.
"""

from __future__ import annotations

import torch
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


def require_features(layer: str, name: str, value: object, width: int | None, *, axes: str, rank: int = 1) -> None:
    """Check that an argument is a floating-point tensor with the expected features on its last axis.

    Args:
        layer: Name of the layer, for the message.
        name: Name of the argument, for the message.
        value: What came, (..., width) where all is well.
        width: The expected number of features; None takes any number but zero.
        axes: The expected shape in words, for the message.
        rank: The least number of axes.

    Raises:
        TypeError: The argument is not a floating-point tensor.
        ValueError: The rank or the width is wrong.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{layer}: {name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{layer}: {name} must be floating point, got {value.dtype}; convert it with .float()")
    if value.dim() < rank:
        raise ValueError(f"{layer}: {name} must have shape {axes}, got {tuple(value.shape)}")
    if value.shape[-1] == 0 or width not in (None, value.shape[-1]):
        expected = "at least 1" if width is None else str(width)
        raise ValueError(f"{layer}: {name} must have shape {axes} with {expected} on the last axis, got {tuple(value.shape)}")


def require_modality(layer: str, mod_type: object, width: int | None, x: Tensor) -> None:
    """Check modality features against the gate's width and against the input that they gate.

    Args:
        layer: Name of the layer, for the message.
        mod_type: What came, (width,) or (..., width) where all is well.
        width: The gate's number of features; None where the first call is to bind it.
        x: The input, already checked, (..., input_dim).

    Raises:
        TypeError: ``mod_type`` is not a floating-point tensor.
        ValueError: Its width is wrong, or its leading axes do not line up with those of ``x``.
    """
    axes = "(modality_dim,) or (..., modality_dim)"
    require_features(layer, "mod_type", mod_type, width, axes=axes)
    assert isinstance(mod_type, Tensor)
    if mod_type.dim() not in (1, x.dim()):
        raise ValueError(
            f"{layer}: mod_type must have one axis or as many as x, got {tuple(mod_type.shape)} for x "
            f"{tuple(x.shape)}; give it axes of size 1, as in mod_type[:, None]"
        )
    if not torch.compiler.is_compiling():
        _require_broadcast(layer, mod_type, x)


def _require_broadcast(layer: str, mod_type: Tensor, x: Tensor) -> None:
    """Check that the leading axes of ``mod_type`` are 1 or those of ``x``."""
    for gate_size, size in zip(mod_type.shape[:-1], x.shape[:-1], strict=False):
        if gate_size not in (1, size):
            raise ValueError(
                f"{layer}: the leading axes of mod_type must be 1 or those of x, got {tuple(mod_type.shape)} for x {tuple(x.shape)}"
            )
