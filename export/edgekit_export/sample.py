"""The first feeds of a calibration, kept while it streams by: corrections look at them again."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

__all__ = ["Sample"]

Feed = Mapping[str, np.ndarray]

MOST_FEEDS = 64
MOST_BYTES = 256_000_000


class Sample:
    """Feeds on their way through, of which the first are kept.

    Example:
        >>> sample = Sample({"x": np.ones(3)} for _ in range(100))
        >>> sum(1 for _ in sample), len(sample.feeds)
        (100, 64)

    Args:
        data: Feeds, taken one at a time.
        most: How many to keep at most.

    Attributes:
        feeds: Those that were kept so far of the last time round, as copies: at most `most`, and 256 MB.
    """

    def __init__(self, data: Iterable[Feed], most: int = MOST_FEEDS) -> None:
        self.feeds: list[dict[str, np.ndarray]] = []
        self._data = data
        self._most = most

    def __iter__(self) -> Iterator[Feed]:
        """The feeds of the data, unchanged; what is no feed is passed on too, for calibration to say so."""
        kept: list[dict[str, np.ndarray]] = []
        size = 0
        for feed in self._data:
            if isinstance(feed, Mapping) and len(kept) < self._most and size < MOST_BYTES:
                kept.append({name: np.array(array) for name, array in feed.items()})
                size += sum(array.nbytes for array in kept[-1].values())
                self.feeds = kept  # only now: data that can be iterated but once may come again, and give nothing
            yield feed
