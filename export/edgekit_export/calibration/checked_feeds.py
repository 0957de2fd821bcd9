"""Feeds as they come from a user's code, checked one at a time."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from edgekit_export.user_code import last_user_line
from edgekit_runtime.errors import CalibrationError, EdgekitError
from edgekit_runtime.tensors import FeedCheck, TensorSpec

__all__ = ["Feed", "checked"]

Feed = Mapping[str, np.ndarray]


def checked(data: Iterable[Feed], inputs: list[TensorSpec]) -> Iterator[Feed]:
    """The feeds of `data`, each checked before it is given on.

    Raises:
        CalibrationError: The user's code raised, or gave something that does not fit `inputs`, or NaN or infinity.
    """
    check = FeedCheck(inputs)
    for index, feed in enumerate(_guarded(data)):
        _check(feed, check, index)
        yield feed


def _guarded(data: Iterable[Feed]) -> Iterator[Feed]:
    """The data, with what the user's code raises told as calibration's failure."""
    index = 0
    iterator = iter(data)
    while True:
        try:
            feed = next(iterator)
        except StopIteration:
            return
        except (EdgekitError, MemoryError):
            raise
        except Exception as error:  # the user's code may raise anything
            raise CalibrationError(
                f"calibrate on example {index}: the recipe's calibration() raised {type(error).__name__}: {error}"
                f"{last_user_line(error)}"
            ) from error
        yield feed
        index += 1


def _check(feed: object, check: FeedCheck, index: int) -> None:
    if not isinstance(feed, Mapping):
        raise CalibrationError(
            f"calibrate on example {index}: calibration() gave {type(feed).__name__}, expected a dict of input name to array"
        )
    try:
        check.check(feed)
    except EdgekitError as error:
        problem = str(error).removeprefix("model call").lstrip(":, ")
        raise CalibrationError(f"calibrate on example {index}: {problem}") from error
    for name, array in feed.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CalibrationError(f"calibrate on example {index}: input {name!r} holds NaN or infinity; clean the data")
