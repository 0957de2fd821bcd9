"""Ranges that are not made for the values that come: of other calibration data, too narrow, too wide."""

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.diagnosis.activations import MOST_OUTSIDE, Seen, fits
from edgekit.diagnosis.error_account import ErrorAccount
from edgekit.diagnosis.findings import Finding
from edgekit.diagnosis.quantized_tensors import Rounding

__all__ = ["calibration_unlike_evaluation", "saturated_ranges", "wasted_ranges"]

SHOWN = 5
RECALIBRATE = "calibrate on data like that which the model is used on, the recipe's own evaluation inputs aside"


def calibration_unlike_evaluation(
    account: ErrorAccount,
    roundings: Mapping[str, Rounding],
    used: Mapping[str, Seen],
    calibrated: Mapping[str, Seen],
    inputs: Sequence[str] = (),
) -> Finding | None:
    """Ranges that fit what calibration data gives here, and not what the model is used on.

    Args:
        account: The error; what new ranges win is settled in it.
        roundings: How activations are rounded.
        used: Their values on what the model is used on.
        calibrated: Their values on calibration data.
        inputs: What is known of the inputs of both, as evidence.
    """
    unfit = _worst(roundings, used, [name for name in used if not fits(used[name], roundings[name])])
    blamed = [name for name in unfit if name in calibrated and fits(calibrated[name], roundings[name])]
    settled = account.settle(ranges=_refitted(roundings, used, blamed)) if blamed else None
    if settled is None:
        return None
    return Finding(
        name="calibration-unlike-evaluation",
        kind="wrong",
        impact=settled.impact,
        title=f"{len(blamed)} of {len(used)} ranges fit the calibration data and not what the model is used on",
        evidence=[*inputs, *(_told(name, roundings, used, calibrated) for name in blamed[:SHOWN]), settled.words],
        advice=f"{RECALIBRATE}; as many as a few hundred examples, drawn from the same source and preprocessed by the same code",
        nodes=blamed,
    )


def saturated_ranges(account: ErrorAccount, roundings: Mapping[str, Rounding], used: Mapping[str, Seen]) -> Finding | None:
    """Ranges beyond which values lie, for whatever reason."""
    names = _worst(roundings, used, [name for name in used if used[name].share_outside > MOST_OUTSIDE])
    settled = account.settle(ranges=_refitted(roundings, used, names)) if names else None
    if settled is None:
        return None
    return Finding(
        name="saturated-ranges",
        kind="wrong",
        impact=settled.impact,
        title=f"values of {len(names)} tensors lie outside the range that they are rounded in",
        evidence=[*(_told(name, roundings, used) for name in names[:SHOWN]), settled.words],
        advice=f"take a calibration method that clips less (minmax), or {RECALIBRATE}",
        nodes=names,
    )


def wasted_ranges(account: ErrorAccount, roundings: Mapping[str, Rounding], used: Mapping[str, Seen]) -> Finding | None:
    """Ranges of which the values use a small part."""
    names = _worst(roundings, used, [name for name in used if not fits(used[name], roundings[name])])
    names = [name for name in names if used[name].share_outside <= MOST_OUTSIDE]
    settled = account.settle(ranges=_refitted(roundings, used, names)) if names else None
    if settled is None:
        return None
    return Finding(
        name="wasted-ranges",
        kind="wrong",
        impact=settled.impact,
        title=f"{len(names)} tensors use less than half of the range that they are rounded in",
        evidence=[*(_told(name, roundings, used) for name in names[:SHOWN]), settled.words],
        advice="look for a calibration example with extreme values; or take a method that clips (mse, percentile)",
        nodes=names,
    )


def _refitted(roundings: Mapping[str, Rounding], used: Mapping[str, Seen], names: Sequence[str]) -> dict[str, Rounding]:
    return {name: roundings[name].fitted(used[name].low, used[name].high) for name in names}


def _worst(roundings: Mapping[str, Rounding], used: Mapping[str, Seen], names: Sequence[str]) -> list[str]:
    """Names by the noise that their rounding makes of their values, most first."""
    return sorted(names, key=lambda name: (used[name].sqnr_db, roundings[name].tensor))


def _told(
    name: str, roundings: Mapping[str, Rounding], used: Mapping[str, Seen], calibrated: Mapping[str, Seen] | None = None
) -> str:
    seen, rounding = used[name], roundings[name]
    share = np.clip(seen.share_used(rounding), 0, 1)
    told = (
        f"{name}: values {seen.low:.3g} to {seen.high:.3g} in a range of {rounding.low:.3g} to {rounding.high:.3g}, "
        f"{seen.share_outside:.1%} outside, {share:.0%} of it used, {seen.sqnr_db:.0f} dB"
    )
    if calibrated and name in calibrated:
        told += f"; calibration data gives {calibrated[name].low:.3g} to {calibrated[name].high:.3g}"
    return told
