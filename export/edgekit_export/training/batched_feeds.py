"""Calibration feeds in batches: a call of a module costs more than an example."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from edgekit_export.example_feeds import Dynamic
from edgekit_runtime.errors import CalibrationError

__all__ = ["batched"]

LARGEST_BATCH = 32


def batched(
    feeds: Iterable[Mapping[str, np.ndarray]], example: Mapping[str, np.ndarray], dynamic: Dynamic
) -> Iterator[dict[str, np.ndarray]]:
    """Feeds joined along a free leading axis where all inputs have the same one.

    Args:
        feeds: Calibration examples.
        example: The recipe's example, whose inputs they have.
        dynamic: Axes that may vary.

    Raises:
        CalibrationError: There are none, or one has other inputs than the example.
    """
    labels = {dynamic.get(name, {}).get(0) for name in example}
    joinable = len(labels) == 1 and labels != {None}
    waiting: list[Mapping[str, np.ndarray]] = []
    index = 0
    for index, feed in enumerate(feeds, start=1):
        if not isinstance(feed, Mapping) or set(feed) != set(example):
            found = list(feed) if isinstance(feed, Mapping) else type(feed).__name__
            raise CalibrationError(f"fake-quantize: calibration example {index - 1} is {found}, expected {list(example)}")
        fits = not waiting or all(feed[name].shape[1:] == waiting[0][name].shape[1:] for name in feed)
        if waiting and (not joinable or not fits or len(waiting) == LARGEST_BATCH):
            yield _joined(waiting, example)
            waiting = []
        waiting.append(feed)
    if index == 0:
        raise CalibrationError("fake-quantize: there is no calibration example; give at least a few dozen real inputs")
    yield _joined(waiting, example)


def _joined(feeds: Sequence[Mapping[str, np.ndarray]], order: Iterable[str]) -> dict[str, np.ndarray]:
    if len(feeds) == 1:
        return {name: feeds[0][name] for name in order}
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in order}
