"""Collecting statistics: one pass over the data, one histogram a tensor, memory that does not grow with the data."""

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from time import monotonic

from edgekit_export.calibration.checked_feeds import Feed, checked
from edgekit_export.calibration.probes import Probes
from edgekit_export.calibration.saved_state import SavedState, fingerprint, next_digest
from edgekit_export.calibration.stand_ins import stand_ins
from edgekit_export.calibration.statistics import Statistics
from edgekit_export.calibration.tally import Tally
from edgekit_export.graph import Graph
from edgekit_runtime.errors import CalibrationError, InputError

__all__ = ["calibrate"]

SAVE_INTERVAL_S = 20.0


def calibrate(
    graph: Graph,
    data: Iterable[Feed],
    on_example: Callable[[int], None] | None = None,
    *,
    state: Path | None = None,
    on_note: Callable[[str], None] | None = None,
    save_interval_s: float = SAVE_INTERVAL_S,
    threads: int | None = None,
) -> Statistics:
    """Runs the graph on calibration data, once, and keeps what all methods need of every float tensor.

    With a `state` file, work that was killed is taken up where it was last saved, and ends with exactly the statistics of an
    uninterrupted run; finished work is not repeated. The file belongs to a graph, these settings and the data: on
    resuming, the feeds that were already seen are hashed again, which is far cheaper than running them. What belongs to
    another graph or other data, or is damaged, is not used, and `on_note` is told why.

    Args:
        graph: A prepared float graph.
        data: Feeds, taken one at a time. Where `state` exists, it has to be something that can be iterated more than once
            (a list, an object with ``__iter__``), in case the data changed and all of it is needed after all.
        on_example: Told how many examples are done.
        state: A file (``.npz``) to save to and to resume from.
        on_note: Told, in a sentence, when a state file could not be used. Without it, that is a warning.
        save_interval_s: Seconds between two savings; 0 saves after every example.
        threads: As in `SessionConfig`.

    Raises:
        CalibrationError: The data is empty, holds NaN or infinity, or does not fit the graph's inputs; or it changed since the
            state was saved, and cannot be iterated again.
        OutputError: The state file could not be written.
    """
    sources = stand_ins(graph)
    names = list(dict.fromkeys(sources.values()))
    on_example = on_example or _nothing
    tally, feeds, digest, key = Tally(names), checked(data, graph.inputs), "", ""
    if state is not None:
        key = fingerprint(graph, names)
        saved = _usable(state, key, on_note or _warn)
        rest = _behind(saved, state, data, checked(data, graph.inputs), on_example, on_note or _warn) if saved else None
        if saved and rest:
            tally, feeds, digest = saved.tally, rest, saved.digest
    saved_at, unsaved = monotonic(), False
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        probes = None
        for feed in feeds:
            probes = probes or Probes(graph, names, Path(folder), threads)
            tally.add(feed, probes.read(feed, tally.examples))
            on_example(tally.examples)
            if state is not None:
                digest, unsaved = next_digest(digest, feed), True
                if monotonic() - saved_at >= save_interval_s:
                    SavedState(key, digest, tally).write(state)
                    saved_at, unsaved = monotonic(), False
    if tally.examples == 0:
        raise CalibrationError("calibrate: the recipe's calibration() gave no example; give at least a few dozen real inputs")
    if state is not None and unsaved:
        SavedState(key, digest, tally).write(state)
    found = tally.histograms()
    return Statistics({name: found[source] for name, source in sources.items()}, tally.inputs, tally.examples)


def _usable(state: Path, key: str, on_note: Callable[[str], None]) -> SavedState | None:
    """The saved state, where there is one of this graph and these settings."""
    if not state.exists():
        return None
    try:
        saved = SavedState.read(state)
    except (InputError, CalibrationError) as error:
        on_note(f"calibration starts over: {error}")
        return None
    if saved.key != key:
        on_note(f"calibration starts over: {state} is of another graph, other settings or another onnxruntime")
        return None
    return saved


def _behind(
    saved: SavedState,
    state: Path,
    data: Iterable[Feed],
    feeds: Iterator[Feed],
    on_example: Callable[[int], None],
    on_note: Callable[[str], None],
) -> Iterator[Feed] | None:
    """The feeds behind those that the state has seen; nothing where the state has seen other ones."""
    digest, count = "", 0
    for feed in islice(feeds, saved.tally.examples):
        digest, count = next_digest(digest, feed), count + 1
        on_example(count)
    if digest == saved.digest:
        return feeds
    if iter(data) is data:
        raise CalibrationError(
            f"calibrate: the data is not what {state} was made from, and it can be read only once; delete that file, or give data "
            "that can be iterated again (a list, or an object with __iter__)"
        )
    on_note(f"calibration starts over: the data is not what {state} was made from")
    return None


def _nothing(examples: int) -> None:
    """Nobody wants to know."""


def _warn(note: str) -> None:
    warnings.warn(note, RuntimeWarning, stacklevel=3)
