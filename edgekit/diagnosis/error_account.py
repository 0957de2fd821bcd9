"""The account of an error: what of it goes away with each cause, taken away one after the other.

What one cause accounts for is the fall of the error's power over the whole power, so that independent causes count the same in
any order and all shares together are at most 1.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log10, sqrt

from edgekit.diagnosis.quantized_tensors import Rounding
from edgekit.diagnosis.replay import Replay
from edgekit.recipe import Arrays
from edgekit_runtime.accuracy import difference

__all__ = ["ErrorAccount", "Settled", "decibels", "error_power", "share_wrong"]

# Beyond this, 60 dB above the output itself, nothing more is lost.
MOST_POWER = 1e6


@dataclass(frozen=True)
class Settled:
    """What went away with one cause.

    Attributes:
        impact: As of `Finding`.
        before_db: The outputs' SQNR with it.
        after_db: Without it.
    """

    impact: float
    before_db: float
    after_db: float

    @property
    def words(self) -> str:
        """The figures in a sentence's part."""
        return f"outputs go from {self.before_db:.1f} to {self.after_db:.1f} dB SQNR without it"


class ErrorAccount:
    """Replays a model with ever more of its causes of error taken away.

    Args:
        replay: The model.
        feeds: Inputs.
        reference: The float model's outputs on them.
        level: The share of the output that is wrong in what really runs, 0 to 1.
    """

    def __init__(self, replay: Replay, feeds: Sequence[Arrays], reference: Sequence[Arrays], level: float) -> None:
        self._replay = replay
        self._feeds, self._reference = feeds, reference
        self._off: set[str] = set()
        self._ranges: dict[str, Rounding] = {}
        self.level = level
        self.whole = self.power = self._power(replay, self._off, self._ranges)

    def without(self, *, off: Collection[str] = (), ranges: Mapping[str, Rounding] | None = None, most: int | None = None) -> float:
        """The error's power with more taken away, on the first `most` feeds; nothing is settled."""
        return self._power(self._replay, self._off | set(off), {**self._ranges, **(ranges or {})}, most)

    def settle(
        self, *, off: Collection[str] = (), ranges: Mapping[str, Rounding] | None = None, replay: Replay | None = None
    ) -> Settled | None:
        """Takes a cause away for good and says what went with it; nothing where that makes it no better."""
        wanted_off, wanted_ranges, model = self._off | set(off), {**self._ranges, **(ranges or {})}, replay or self._replay
        power = self._power(model, wanted_off, wanted_ranges)
        if power >= self.power:
            return None
        before, self.power = self.power, power
        self._off, self._ranges, self._replay = wanted_off, wanted_ranges, model
        return Settled(self.level * (before - power) / self.whole, decibels(before), decibels(power))

    def _power(self, replay: Replay, off: Collection[str], ranges: Mapping[str, Rounding], most: int | None = None) -> float:
        feeds, reference = self._feeds[:most], self._reference[:most]
        return error_power([replay.run(feed, off, ranges) for feed in feeds], reference)


def error_power(outputs: Sequence[Arrays], reference: Sequence[Arrays]) -> float:
    """Power of the error over that of the reference, at most a million."""
    ratio = difference([{name: got[name] for name in wanted} for got, wanted in zip(outputs, reference, strict=True)], reference)
    return float(min(10 ** (-ratio.sqnr_db / 10), MOST_POWER)) if ratio.sqnr_db > -inf else MOST_POWER


def decibels(power: float) -> float:
    """SQNR of an error's relative power."""
    return -10 * log10(power) if power > 0 else inf


def share_wrong(power: float) -> float:
    """Rms of the error over that of the output, at most 1."""
    return min(1.0, sqrt(power))
