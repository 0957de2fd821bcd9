"""Structured pruning: channels are really removed, and what is left is an ordinary module of the same classes, only narrower."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgekit_export.example_feeds import Dynamic
from edgekit_export.parity import tolerance
from edgekit_export.torch_module import TorchModel
from edgekit_export.training.captured import Captured, capture
from edgekit_export.training.channel_flow import follow
from edgekit_export.training.channels import Axis, Cells, Channel
from edgekit_export.training.importance import INPUT_AXIS, Importance, importance_of
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import CompressionError, TraceError

__all__ = ["Pruned", "prune", "remove_channels", "silence_channels"]

# A group keeps at least this share of its channels: past it a layer stops telling examples apart.
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Pruned:
    """A narrower module.

    Attributes:
        module: It, with the weights that stayed; train it further, best against the module it came from.
        multiply_adds_before: Multiply-adds of one example in the module as it was.
        multiply_adds: Those of the narrower one.
        kept: Channels that stayed and channels there were, by the weight that makes them.
        removed: What went.
    """

    module: nn.Module
    multiply_adds_before: int
    multiply_adds: int
    kept: dict[str, tuple[int, int]]
    removed: tuple[Channel, ...]


def prune(
    module: nn.Module,
    example: Mapping[str, np.ndarray],
    dynamic: Dynamic | None = None,
    *,
    keep: float,
    importance: Importance = "l2",
    losses: Iterable[Tensor] | None = None,
    multiple: int = 8,
    skip: Sequence[str] = (),
) -> Pruned:
    """Removes the channels that matter least, until no more than a share of the multiply-adds is left.

    The result is compared with the module whose removed channels are silenced: they compute the same.

    Args:
        module: It is left as it is.
        example: Arrays by the names of forward's parameters, in order.
        dynamic: Axes that may vary.
        keep: Share of the multiply-adds that may stay, above 0 and below 1.
        importance: How channels are ranked.
        losses: For ``taylor``: a scalar loss of `module` for each of a few batches.
        multiple: Each group keeps a multiple of this many channels, as integer kernels like it; smaller groups stay whole.
        skip: Submodules whose weights keep their size, by name.

    Raises:
        TraceError: ``torch.export`` cannot follow the module.
        CompressionError: Nothing can be removed, or not as much as asked; says what stands in the way.
    """
    name = type(module).__name__
    if not 0 < keep < 1:
        raise CompressionError(f"prune {name}: keep={keep}, expected a share of the multiply-adds above 0 and below 1")
    if multiple < 1:
        raise CompressionError(f"prune {name}: multiple={multiple}, expected 1 or more")
    captured = capture(module, example, dynamic)
    cells = follow(captured)
    _protect(cells, module, skip)
    channels = cells.channels()
    if not channels:
        raise CompressionError(
            f"prune {name}: no channel can be removed: each reaches an output, a LayerNorm, a reshape into fixed sizes or an "
            "operator that is not known; leave the layers between two weights wide and without such operators"
        )
    ranked = importance_of(module, channels, importance, losses)
    if importance == "taylor":  # a change of the loss is weighed against what it saves
        ranked = ranked / _savings(cells, channels)
    before = cells.multiply_adds()
    removed = _choose(cells, channels, ranked, keep * before, multiple, name)
    smaller = remove_channels(module, removed)
    _check(captured, smaller, removed)
    return Pruned(smaller, before, cells.multiply_adds(removed), _kept(cells, removed), tuple(removed))


def remove_channels(module: nn.Module, removed: Sequence[Channel]) -> nn.Module:
    """A copy without some channels."""
    smaller = copy.deepcopy(module)
    # Shared parameters have several names and are cut once.
    names: dict[int, list[str]] = {}
    for name, value in (*smaller.named_parameters(remove_duplicate=False), *smaller.named_buffers(remove_duplicate=False)):
        names.setdefault(id(value), []).append(name)
    aliases = {name: shared for shared in names.values() for name in shared}
    for parameter in sorted({axis[0] for axis in _gone(removed)}):
        value = _owner(smaller, parameter)[1]
        for (name, axis), found in _gone(removed).items():
            if name == parameter:
                staying = [index for index in range(value.shape[axis]) if index not in found]
                value = value.detach().index_select(axis, torch.tensor(staying, dtype=torch.long, device=value.device)).clone()
        original = _owner(smaller, parameter)[1]
        cut = nn.Parameter(value, requires_grad=original.requires_grad) if isinstance(original, nn.Parameter) else value
        for alias in aliases[parameter]:
            path, _, attribute = alias.rpartition(".")
            setattr(smaller.get_submodule(path), attribute, cut)
    for part in smaller.modules():
        _tell_sizes(part)
    return smaller


def silence_channels(module: nn.Module, removed: Sequence[Channel]) -> nn.Module:
    """A copy of the same size whose weights no longer read some channels."""
    silent = copy.deepcopy(module)
    for (name, axis), found in _gone(removed).items():
        if axis == INPUT_AXIS:
            value = _owner(silent, name)[1]
            with torch.no_grad():
                value.index_fill_(axis, torch.tensor(sorted(found), device=value.device), 0.0)
    return silent


def _gone(removed: Sequence[Channel]) -> dict[Axis, set[int]]:
    gone: dict[Axis, set[int]] = {}
    for channel in removed:
        for axis, found in channel.slices.items():
            gone.setdefault(axis, set()).update(found)
    return gone


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, Tensor]:
    path, _, attribute = name.rpartition(".")
    owner = module.get_submodule(path)
    return owner, getattr(owner, attribute)


def _tell_sizes(part: nn.Module) -> None:
    """Brings the sizes that a layer keeps beside its weight in line with it."""
    if isinstance(part, nn.modules.conv._ConvNd):
        out, into = part.weight.shape[:2]
        if part.groups > 1 and part.groups == part.in_channels:  # depthwise
            part.groups = part.in_channels = part.out_channels = out
        else:
            part.out_channels, part.in_channels = out, into * part.groups
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
        part.num_features = part.running_mean.shape[0]
    elif isinstance(part, nn.Embedding):
        part.embedding_dim = part.weight.shape[1]


def _protect(cells: Cells, module: nn.Module, skip: Sequence[str]) -> None:
    known = dict(module.named_modules())
    for name in skip:
        if name not in known:
            raise CompressionError(f"prune {type(module).__name__}: skip names {name!r}; it has no such submodule")
        cells.fix(*(found for (parameter, _), found in cells.axes.items() if parameter.startswith(f"{name}.")))


def _savings(cells: Cells, channels: Sequence[Channel]) -> np.ndarray:
    """Multiply-adds that a channel's group costs, per channel."""
    groups: dict[tuple[Axis, ...], int] = {}
    before = cells.multiply_adds()
    for channel in channels:
        if channel.group not in groups:
            groups[channel.group] = before - cells.multiply_adds([channel])
    return np.array([max(groups[channel.group], 1) for channel in channels], float)


def _choose(
    cells: Cells, channels: Sequence[Channel], ranked: np.ndarray, budget: float, multiple: int, name: str
) -> list[Channel]:
    """The fewest of the lowest-ranked channels without which the budget is met."""
    order = sorted(range(len(channels)), key=lambda index: (ranked[index], index))
    groups: dict[tuple[Axis, ...], list[int]] = {}
    for index in order:
        groups.setdefault(channels[index].group, []).append(index)
    place = {index: position for position, index in enumerate(order)}

    def without(lowest: int) -> list[Channel]:
        gone = []
        for members in groups.values():
            wanted = sum(place[index] < lowest for index in members)
            staying = max(len(members) - wanted, int(np.ceil(LEAST_SHARE * len(members))), 1)
            staying = -(-staying // multiple) * multiple
            gone += members[: max(len(members) - staying, 0)]
        return [channels[index] for index in sorted(gone)]

    least = cells.multiply_adds(without(len(order)))
    if least > budget:
        before = cells.multiply_adds()
        raise CompressionError(
            f"prune {name}: keep={budget / before:.2f} cannot be met: with the fewest channels that multiple={multiple} allows, "
            f"{least / before:.2f} of the multiply-adds stay; the rest is in layers whose channels cannot be removed"
        )
    low, high = 0, len(order)  # without(high) is within the budget
    while low < high:
        middle = (low + high) // 2
        if cells.multiply_adds(without(middle)) <= budget:
            high = middle
        else:
            low = middle + 1
    return without(high)


def _kept(cells: Cells, removed: Sequence[Channel]) -> dict[str, tuple[int, int]]:
    gone = _gone(removed)
    return {
        name: (len(found) - len(gone[name, 0]), len(found))
        for (name, axis), found in cells.axes.items()
        if axis == 0 and (name, 0) in gone and any(work.name == name for work in cells.work)
    }


def _check(captured: Captured, smaller: nn.Module, removed: Sequence[Channel]) -> None:
    """Compares the narrower module with the one whose channels are silenced.

    Raises:
        CompressionError: It does not run, or computes something else.
    """
    name = type(smaller).__name__
    # Both in eval mode, where dropout and batch statistics are still.
    narrow, silent = copy.deepcopy(smaller).eval(), silence_channels(captured.model.module, removed)
    try:
        found = TorchModel(narrow, captured.feed)(captured.feed)
    except TraceError as error:
        raise CompressionError(
            f"prune {name}: without {len(removed)} channels its forward() fails: {error}; take sizes from tensors' shapes there, "
            "or name the submodule in skip"
        ) from error
    wanted = TorchModel(silent, captured.feed)(captured.feed)
    for output, expected in wanted.items():
        apart = difference([{output: found[output]}], [{output: expected}]).max_abs_diff
        if not apart <= tolerance(expected):
            raise CompressionError(
                f"prune {name}: output {output!r} differs by {apart:.3g} from the module with the same channels silenced; name the "
                "submodule that does more than its weights in skip, and tell us"
            )
