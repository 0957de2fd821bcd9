"""Inputs that are not preprocessed as calibration's were: another scale, another offset, channels in another order.

Two sets of images differ in what they show; a preprocessing differs in one map for all values. So the quantiles of both are
compared, and a mismatch is what a straight line through them takes away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.recipe import Arrays
from edgekit_runtime.manifest import InputRange

__all__ = ["Mismatch", "find_mismatch"]

QUANTILES = np.array([0.01, *np.linspace(0.1, 0.9, 9), 0.99])
# Of the reference's spread: what the quantiles of two honest samples of one task may differ by.
FAR = 0.5
# The share of the distance that a straight line has to take away.
LEAST_EXPLAINED = 0.75
# A spread that differs by less is one of content: contrast varies as much from one set of photographs to another.
LEAST_SCALE = 1.5
# Standard errors of the channels' means.
SURE, NEAR = 5.0, 2.5
LEAST_FEEDS = 4
COLOURS = 3

# What people forget, or do twice: scale and offset, and how it reads.
USUAL: tuple[tuple[float, float, str], ...] = (
    (1 / 255, 0.0, "divided by 255"),
    (255.0, 0.0, "multiplied by 255"),
    (1 / 127.5, -1.0, "divided by 127.5, less 1"),
    (127.5, 127.5, "plus 1, times 127.5"),
    (2.0, -1.0, "times 2, less 1"),
    (0.5, 0.5, "plus 1, halved"),
)


@dataclass(frozen=True)
class Mismatch:
    """How one input would have to be changed to look as it did at calibration.

    Attributes:
        input: Its name.
        scale: Factor.
        offset: What is added afterwards.
        reversed_axis: The axis of channels that are in reverse order; ``None`` where they are not.
        words: The change in words.
        evidence: Figures of both.
    """

    input: str
    scale: float
    offset: float
    reversed_axis: int | None
    words: str
    evidence: list[str]

    def mend(self, feed: Arrays) -> Arrays:
        """A feed with the input changed."""
        array = feed[self.input]
        if self.reversed_axis is not None:
            array = np.ascontiguousarray(np.flip(array, self.reversed_axis))
        return {**feed, self.input: (array * np.float32(self.scale) + np.float32(self.offset)).astype(feed[self.input].dtype)}


def find_mismatch(feeds: Sequence[Arrays], calibration: Sequence[Arrays], ranges: Mapping[str, InputRange]) -> Mismatch | None:
    """The first input that one change of preprocessing would bring near to what calibration saw.

    Args:
        feeds: What the model is used on.
        calibration: What it was calibrated on; may be empty.
        ranges: Ranges of calibration's inputs, as a manifest keeps them; may be empty.
    """
    for name, array in feeds[0].items() if feeds else ():
        if array.dtype.kind != "f" or array.size < 2:
            continue
        given = [feed[name] for feed in feeds]
        known = [feed[name] for feed in calibration if name in feed]
        if known and not _contradicted(known, ranges.get(name)):
            found = _by_values(name, given, known) or _by_order(name, given, known)
        else:
            found = _by_range(name, given, ranges[name]) if name in ranges else None
        if found is not None:
            return found
    return None


def _contradicted(known: Sequence[np.ndarray], seen: InputRange | None) -> bool:
    """Whether calibration data cannot be what the manifest's range is of: the recipe has changed since."""
    if seen is None:
        return False
    low, high = min(float(array.min()) for array in known), max(float(array.max()) for array in known)
    return high - low > LEAST_SCALE * (seen.maximum - seen.minimum) or high - low < (seen.maximum - seen.minimum) / (
        2 * LEAST_SCALE
    )


def _by_values(name: str, given: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> Mismatch | None:
    mine, theirs = (np.concatenate([array.reshape(-1) for array in arrays]).astype(np.float64) for arrays in (given, known))
    own, wanted = np.quantile(mine, QUANTILES), np.quantile(theirs, QUANTILES)
    spread = max(float(theirs.std()), 1e-12)
    apart = _distance(own, wanted, spread)
    if apart < FAR or own[-1] == own[0]:
        return None
    slope, offset = (float(value) for value in np.polyfit(own, wanted, 1))
    if slope <= 0 or _distance(slope * own + offset, wanted, spread) > (1 - LEAST_EXPLAINED) * apart:
        return None
    shift = abs(float(theirs.mean() - mine.mean()))
    if max(slope, 1 / slope) < LEAST_SCALE and shift < max(float(mine.std()), spread):
        return None
    ends = (float(np.ptp(theirs)) / float(np.ptp(mine)), 0.0)
    ends = (ends[0], float(theirs.min()) - ends[0] * float(mine.min()))
    scale, offset, words = _usual(own, wanted, spread, (slope, offset), ends)
    evidence = [
        f"input {name!r}: mean {mine.mean():.4g}, std {mine.std():.4g}, range {mine.min():.4g} to {mine.max():.4g}",
        f"calibration: mean {theirs.mean():.4g}, std {theirs.std():.4g}, range {theirs.min():.4g} to {theirs.max():.4g}",
        f"one straight line explains {1 - _distance(scale * own + offset, wanted, spread) / apart:.0%} of the distance",
    ]
    return Mismatch(name, scale, offset, None, words, evidence)


def _by_range(name: str, given: Sequence[np.ndarray], seen: InputRange) -> Mismatch | None:
    """Where only the range of calibration's values is known."""
    low, high = min(float(array.min()) for array in given), max(float(array.max()) for array in given)
    span, wanted = high - low, seen.maximum - seen.minimum
    if span <= 0 or wanted <= 0:
        return None
    slack = FAR * wanted
    inside = low >= seen.minimum - slack and high <= seen.maximum + slack
    if inside and span > wanted / (2 * LEAST_SCALE):
        return None
    ends, goal = np.array([low, high]), np.array([seen.minimum, seen.maximum])
    fitted = (wanted / span, seen.minimum - low * wanted / span)
    scale, offset, words = _usual(ends, goal, wanted / 2, fitted, fitted)
    evidence = [f"input {name!r}: {low:.4g} to {high:.4g}", f"calibration: {seen.minimum:.4g} to {seen.maximum:.4g} (manifest)"]
    return Mismatch(name, scale, offset, None, words, evidence)


def _by_order(name: str, given: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> Mismatch | None:
    """Red and blue in each other's place: the means of the channels agree only backwards."""
    axis = next((axis for axis in (1, -1) if given[0].ndim == 4 and given[0].shape[axis] == COLOURS), None)
    if axis is None or min(len(given), len(known)) < LEAST_FEEDS:
        return None
    others = tuple(other for other in range(4) if other != axis % 4)
    # What tells channels apart is how each differs from the mean of all three; the brightness of a picture cancels.
    means = [np.array([array.mean(axis=others) - array.mean() for array in arrays]) for arrays in (given, known)]
    error = np.sqrt(sum(mean.var(axis=0).sum() / len(mean) for mean in means))
    (mine, theirs) = (mean.mean(axis=0) for mean in means)
    forward, backward = (float(np.linalg.norm(one - theirs)) / max(float(error), 1e-12) for one in (mine, mine[::-1]))
    if forward < SURE or backward > NEAR:
        return None
    tell = [", ".join(f"{value:+.3g}" for value in one) for one in (mine, theirs)]
    evidence = [f"input {name!r}: its channels are {tell[0]} from their mean, calibration's {tell[1]}: the same backwards"]
    return Mismatch(name, 1.0, 0.0, axis, "with its channels in reverse order (RGB against BGR)", evidence)


def _usual(
    own: np.ndarray, wanted: np.ndarray, spread: float, fitted: tuple[float, float], ends: tuple[float, float]
) -> tuple[float, float, str]:
    """A usual change that does nearly as well as the fitted one; else one that maps end to end, and so into range; else that."""
    best = _distance(fitted[0] * own + fitted[1], wanted, spread)
    changes = (*USUAL, (*ends, ""))
    near = [change for change in changes if _distance(change[0] * own + change[1], wanted, spread) <= best + FAR / 5]
    scale, offset, words = near[0] if near else (*fitted, "")
    return scale, offset, words or f"times {scale:.4g}, {'plus' if offset >= 0 else 'less'} {abs(offset):.4g}"


def _distance(one: np.ndarray, other: np.ndarray, spread: float) -> float:
    return float(np.sqrt(np.mean(np.square(one - other)))) / spread
