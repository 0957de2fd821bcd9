"""What is left of an error when no single fault explains it: the layers that suffer most, and the weights."""

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.diagnosis.activations import Seen
from edgekit.diagnosis.error_account import ErrorAccount
from edgekit.diagnosis.findings import Finding
from edgekit.diagnosis.replay import Replay

__all__ = ["coarse_weights", "sensitive_layers", "spread_error"]

# Each is left out by itself on a few feeds: those whose own rounding is coarsest.
MOST_TRIED = 24
TRIED_ON = 12
NAMED = 3


def sensitive_layers(account: ErrorAccount, used: Mapping[str, Seen]) -> Finding | None:
    """The activations whose rounding costs the outputs most, each left out by itself."""
    suspects = sorted(used, key=lambda name: used[name].sqnr_db)[:MOST_TRIED]
    whole = account.without(most=TRIED_ON)
    won = {name: whole - account.without(off=[name], most=TRIED_ON) for name in suspects}
    worst = sorted((name for name in suspects if won[name] > 0), key=lambda name: -won[name])[:NAMED]
    settled = account.settle(off=worst) if worst else None
    if settled is None:
        return None
    return Finding(
        name="sensitive-layers",
        kind="wrong",
        impact=settled.impact,
        title=f"{len(worst)} of {len(used)} rounded activations make the most of what is left of the error",
        evidence=[
            *(f"{name}: rounded to {used[name].sqnr_db:.0f} dB, {won[name] / whole:.0%} of the error" for name in worst),
            settled.words,
        ],
        advice="leave the nodes that make or take them in float (--spare; --sensitivity tells which cost least), or try mse ranges",
        nodes=worst,
    )


def spread_error(account: ErrorAccount, used: Mapping[str, Seen]) -> Finding | None:
    """What rounding all other activations costs, none of which stands out."""
    worst = sorted(used, key=lambda name: used[name].sqnr_db)
    settled = account.settle(off=worst) if worst else None
    if settled is None:
        return None
    return Finding(
        name="activations-rounded",
        kind="wrong",
        impact=settled.impact,
        title=f"rounding {len(worst)} activations costs a little each, and none stands out",
        evidence=[*(f"{name}: rounded to {used[name].sqnr_db:.0f} dB" for name in worst[:NAMED]), settled.words],
        advice="compare other calibration methods (mse, average) and 'debiased'; where 8 bits are too few, leave more in float",
        nodes=worst,
    )


def coarse_weights(account: ErrorAccount, weights: Mapping[str, np.ndarray], replay: Callable[[], Replay]) -> Finding | None:
    """What rounding the weights costs.

    Args:
        account: The error; weights in float are settled in it.
        weights: Values of the integer weights.
        replay: Opens a replay with the float weights.
    """
    settled = account.settle(replay=replay()) if weights else None
    if settled is None:
        return None
    return Finding(
        name="weights-rounded",
        kind="wrong",
        impact=settled.impact,
        title=f"rounding {len(weights)} weights",
        evidence=[settled.words],
        advice="round them for the layers' outputs (correction 'rounded'); 8 bits instead of 7 where the processor has VNNI",
        nodes=list(weights),
    )
