"""How much a channel matters, estimated: the ones that matter least go first."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from edgekit_export.training.channels import Axis, Channel
from edgekit_runtime.errors import CompressionError

__all__ = ["IMPORTANCES", "Importance", "importance_of"]

Importance = Literal["l1", "l2", "batchnorm", "taylor"]
"""What stands for how much a channel matters.

- ``l1``, ``l2``: size of all weights that go with it (Li et al., *Pruning Filters for Efficient ConvNets*, arXiv:1608.08710; summed
  over what goes together as in Fang et al., arXiv:2301.12900). Needs no data.
- ``batchnorm``: size of its BatchNorm's scale (Liu et al., *Network Slimming*, arXiv:1708.06519); ``l2`` where it has none.
- ``taylor``: first-order change of the loss when those who read the channel no longer do (Molchanov et al., *Importance
  Estimation for Neural Network Pruning*, arXiv:1906.10771), squared, as a mean over batches.
"""
IMPORTANCES: tuple[Importance, ...] = get_args(Importance)
# Readers of a channel hold it on this axis of their weight.
INPUT_AXIS = 1


def importance_of(
    module: nn.Module, channels: Sequence[Channel], kind: Importance, losses: Iterable[Tensor] | None = None
) -> np.ndarray:
    """How much each channel matters, (channels,), comparable between groups.

    Sizes of weights say nothing across groups, so they are divided by their group's mean; changes of the loss are comparable
    as they are.

    Args:
        module: Whose channels they are.
        channels: They.
        kind: The estimate.
        losses: For ``taylor``: a scalar loss of this module for each of a few batches, as in
            ``(loss(module(x), y) for x, y in batches)``.

    Raises:
        CompressionError: There is no such estimate, or its losses are missing or not of this module.
    """
    if kind not in IMPORTANCES:
        raise CompressionError(f"prune: importance {kind!r}: there are {', '.join(IMPORTANCES)}")
    if kind == "taylor":
        return _taylor(module, channels, losses)
    if losses is not None:
        raise CompressionError(f"prune: losses were given, and importance {kind!r} uses none; ask for importance='taylor'")
    sizes = _sizes(module, channels, kind)
    raw = np.array([sum(float(sizes[axis][list(found)].sum()) for axis, found in part.slices.items()) for part in channels])
    if kind == "l2":
        raw = np.sqrt(raw)
    groups: dict[tuple[Axis, ...], list[int]] = {}
    for index, channel in enumerate(channels):
        groups.setdefault(channel.group, []).append(index)
    for indices in groups.values():
        raw[indices] /= max(float(raw[indices].mean()), np.finfo(np.float64).tiny)
    return raw


def _sizes(module: nn.Module, channels: Sequence[Channel], kind: Importance) -> dict[Axis, np.ndarray]:
    """What each slice adds to its channel's importance, by parameter and axis."""
    sizes: dict[Axis, np.ndarray] = {}
    groups = {channel.group for channel in channels}
    for group in groups:
        scales = [axis for axis in group if _is_batchnorm_scale(module, axis[0])]
        for axis in group:
            value = _stored(module, axis[0]).detach().double()
            others = [index for index in range(value.dim()) if index != axis[1]]
            if kind == "batchnorm" and scales:
                counted = value.abs() if axis in scales else torch.zeros_like(value)
            elif value.dim() < 2:  # biases and statistics shift, they do not weigh
                counted = torch.zeros_like(value)
            else:
                counted = value.abs() if kind == "l1" else value.square()
            sizes[axis] = (counted.sum(others) if others else counted).cpu().numpy()
    return sizes


def _taylor(module: nn.Module, channels: Sequence[Channel], losses: Iterable[Tensor] | None) -> np.ndarray:
    if losses is None:
        raise CompressionError(
            "prune: importance 'taylor' needs losses; give losses=(loss(module(x), y) for x, y in a few batches)"
        )
    names = sorted({axis[0] for part in channels for axis in part.slices if axis[1] == INPUT_AXIS})
    weights = [_stored(module, name) for name in names]
    total = np.zeros(len(channels))
    batches = 0
    for loss in losses:
        try:
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        except RuntimeError as error:
            raise CompressionError(f"prune: importance 'taylor': batch {batches}: its loss has no gradient: {error}") from error
        if all(gradient is None for gradient in gradients):
            raise CompressionError("prune: importance 'taylor': the losses do not depend on this module's weights")
        effects = {
            name: (gradient * weight).detach().double().transpose(0, INPUT_AXIS).flatten(1).sum(1).cpu().numpy()
            for name, weight, gradient in zip(names, weights, gradients, strict=True)
            if gradient is not None
        }
        for index, channel in enumerate(channels):
            change = sum(
                float(effects[name][list(found)].sum())
                for (name, axis), found in channel.slices.items()
                if axis == INPUT_AXIS and name in effects
            )
            total[index] += change**2
        batches += 1
    if batches == 0:
        raise CompressionError("prune: importance 'taylor': losses gave none; give a few batches")
    return total / batches


def _stored(module: nn.Module, name: str) -> Tensor:
    path, _, attribute = name.rpartition(".")
    value: Tensor = getattr(module.get_submodule(path), attribute)
    return value


def _is_batchnorm_scale(module: nn.Module, name: str) -> bool:
    path, _, attribute = name.rpartition(".")
    return attribute == "weight" and isinstance(module.get_submodule(path), nn.modules.batchnorm._BatchNorm)
