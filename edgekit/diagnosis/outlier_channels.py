"""Channels that reach much farther than the others of their tensor, with which they share one scale."""

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.diagnosis.activations import Seen
from edgekit.diagnosis.error_account import ErrorAccount
from edgekit.diagnosis.findings import Finding
from edgekit.diagnosis.quantized_tensors import IntegerWeight
from edgekit.diagnosis.replay import Replay

__all__ = ["outlier_activations", "outlier_weights"]

# Of the median channel's reach: it is left with five of eight bits.
FAR = 8.0
SHOWN = 5


def outlier_activations(
    account: ErrorAccount,
    used: Mapping[str, Seen],
    weights: Mapping[str, IntegerWeight],
    floats: Mapping[str, np.ndarray],
    readers: Callable[[str], list[str]],
    replay: Callable[[dict[str, np.ndarray]], Replay],
) -> Finding | None:
    """Activations with such a channel.

    What is settled in the account is what is won when they are not rounded, and neither are the weights that read such a channel:
    where the channel is large its weights are small, and share their scale with large ones.

    Args:
        account: The error.
        used: Values of the activations.
        weights: All integer weights.
        floats: The float model's.
        readers: Names of the weights that multiply an activation.
        replay: Opens a replay with other values of the weights.
    """
    outliers = {name: seen.outlier for name, seen in used.items() if seen.outlier[1] > FAR}
    names = sorted(outliers, key=lambda name: -outliers[name][1])
    if not names:
        return None
    values = {name: weight.values for name, weight in weights.items()}
    for name in names:
        channels, seen = used[name].far_channels(FAR), used[name]
        for reader in readers(name):
            if reader in values and seen.reach is not None:
                values[reader] = _columns_kept(weights[reader], values[reader], floats[reader], channels, seen.reach.size)
    settled = account.settle(off=names, replay=replay(values))
    if settled is None:
        return None
    worst = names[0]
    return Finding(
        name="outlier-channels",
        kind="wrong",
        impact=settled.impact,
        title=f"in {len(names)} of {len(used)} activations one channel reaches more than {FAR:g} times as far as the "
        "median one, on one scale",
        evidence=[
            *(f"{name}: channel {outliers[name][0]} reaches {outliers[name][1]:.0f} times as far" for name in names[:SHOWN]),
            settled.words,
        ],
        advice="move its scale into the next layer's weights (correction 'equalized' for convolutions, 'smoothed' for products), "
        f"or leave what takes {worst} in float (--spare)",
        nodes=names,
    )


def _columns_kept(weight: IntegerWeight, values: np.ndarray, floating: np.ndarray, channels: list[int], count: int) -> np.ndarray:
    """A weight's values with the float ones where it reads some input channels."""
    axis = next((axis for axis in (1, 0) if axis < floating.ndim and axis != weight.axis and floating.shape[axis] == count), None)
    if axis is None:
        return values
    kept = values.copy()
    place = (slice(None),) * axis + (channels,)
    kept[place] = floating[place]
    return kept


def outlier_weights(
    account: ErrorAccount,
    weights: Mapping[str, IntegerWeight],
    floats: Mapping[str, np.ndarray],
    replay: Callable[[dict[str, np.ndarray]], Replay],
) -> Finding | None:
    """Weights of one scale with such a channel.

    Args:
        account: The error; what is won with these weights in float is settled in it.
        weights: All integer weights.
        floats: The float model's.
        replay: Opens a replay with other values of the weights.
    """
    ratios = {
        name: ratio for name, weight in weights.items() if weight.shared and (ratio := _ratio(floats[name], weight.axis)) > FAR
    }
    names = sorted(ratios, key=lambda name: -ratios[name])
    if not names:
        return None
    values = {name: weight.values for name, weight in weights.items() if name not in ratios}
    settled = account.settle(replay=replay(values))
    if settled is None:
        return None
    return Finding(
        name="outlier-weights",
        kind="wrong",
        impact=settled.impact,
        title=f"in {len(names)} weights one channel reaches more than {FAR:g} times as far as the median one, on one scale",
        evidence=[*(f"{name}: {ratios[name]:.0f} times as far" for name in names[:SHOWN]), settled.words],
        advice="quantize weights per channel (per_channel=True; edgekit's schemes do unless they are called 'tensor')",
        nodes=names,
    )


def _ratio(weight: np.ndarray, axis: int) -> float:
    reach = np.abs(weight).max(axis=tuple(other for other in range(weight.ndim) if other != axis % weight.ndim))
    alive = reach[reach > 0]
    return float(alive.max() / np.median(alive)) if alive.size >= 3 else 1.0
