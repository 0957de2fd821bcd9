"""Counting what a board executes for one call of a model: instructions, their mix, and misses of modelled caches.

A count is not a time. It knows nothing of how many instructions a core starts at once, how long each takes, of clocks and of
memory's speed.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from edgekit.labs.emulated.boards import Board
from edgekit.labs.emulated.emulator import EmulatedBoard
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.plugin import build_plugin
from edgekit.labs.emulated.setup import unfinished
from edgekit.labs.worker import Worker
from edgekit_runtime.errors import LabError
from edgekit_runtime.machine import machine
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["RUNS", "CacheCounts", "Counter", "Counts", "InstructionMix", "can_count", "count", "read_counts", "start_counter"]

RUNS = 6
WARM_UP_RUNS = 32
# Fields of a line that the plugin writes: the mark, all instructions, the classes in the order of InstructionMix, then the caches.
FIELDS = 14
CLASSES = slice(2, 11)


class InstructionMix(msgspec.Struct, frozen=True):
    """Instructions of one call by class.

    Attributes:
        dot: Integer dot products: SDOT, UDOT, USDOT, SUDOT.
        mmla: Integer matrix products: SMMLA, UMMLA, USMMLA.
        widening_multiply: Integer products of twice the width: SMULL, SMLAL and their kin.
        float_fma: Float multiply-adds, vector and scalar, also of float16 and bfloat16.
        other_simd: All other vector and float instructions.
        loads: Loads, vector and scalar, with prefetches and atomic operations.
        stores: Stores.
        branches: Jumps, calls and returns.
        other: Integer arithmetic and the rest.
    """

    dot: int
    mmla: int
    widening_multiply: int
    float_fma: int
    other_simd: int
    loads: int
    stores: int
    branches: int
    other: int


class CacheCounts(msgspec.Struct, frozen=True):
    """What went past modelled data caches in one call.

    The model: both levels replace the line that was used longest ago, and keep what is read and what is written; nothing is fetched
    ahead, code takes no room, and addresses are the program's own. Real cores fetch ahead, so they wait for fewer of these misses;
    some replace at random.

    Attributes:
        bytes: Bytes that were read and written.
        l1_misses: Accesses to lines that the first level did not hold.
        l2_misses: Those of them that the second level did not hold either.
    """

    bytes: int
    l1_misses: int
    l2_misses: int


class Counts(msgspec.Struct, frozen=True):
    """What one call of a model executes on a board: that of the median run by instructions.

    A call is the runtime's, Python around it included.

    Attributes:
        board: The board's name.
        instructions: All instructions.
        mix: By class; ``None`` on x86-64, whose instructions are counted and not told apart.
        caches: Modelled misses; ``None`` where they were not asked for.
        runs: How many runs the median is of.
        spread: Most minus fewest instructions of a run, over the median.
    """

    board: str
    instructions: int
    mix: InstructionMix | None
    caches: CacheCounts | None
    runs: int
    spread: float


class Counter:
    """Counts calls of models, one after the other, in one worker on a board.

    Args:
        board: The board.
        worker: A worker on it that counts.
        out: Where its plugin writes.
        caches: Whether it models caches.
    """

    def __init__(self, board: EmulatedBoard, worker: Worker, out: Path, caches: bool) -> None:
        self._board = board
        self._worker = worker
        self._out = out
        self._caches = caches

    def count(
        self,
        path: Path,
        feed: Mapping[str, np.ndarray],
        provider: Provider | None = None,
        session: SessionConfig | None = None,
        runs: int = RUNS,
    ) -> Counts:
        """Counts one call of a model.

        Args:
            path: A bundle or a model file.
            feed: What it is called with.
            provider: Another provider than the bundle's.
            session: Other session options than the bundle's; the model gets one thread in any case.
            runs: Runs to take the median of, after one that is not counted.

        Raises:
            LabError: The plugin did not write what it should.
            SessionError: The model does not open or run there.
        """
        opened = self._worker.open(self._board.put(path), provider=provider, session=session, threads=1, check_isa=False)
        try:
            tags = opened.count(feed, runs)
        finally:
            opened.close()
        return read_counts(self._out, tags, self._board.board, caches=self._caches)


def read_counts(out: Path, tags: Sequence[int], board: Board, *, caches: bool = False) -> Counts:
    """The median run of those that a program on a board marked, from what the counting plugin wrote.

    Args:
        out: The plugin's file.
        tags: The even mark that begins each run; the next odd one ends it.
        board: The board.
        caches: Whether its caches were modelled.

    Raises:
        LabError: The plugin did not write what it should.
    """
    marks = _read_marks(out)
    try:
        seen = [np.subtract(marks[tag + 1], marks[tag]) for tag in tags]
    except KeyError as error:
        raise LabError(
            f"count on {board.name}: the counting plugin saw no mark {error}; report this as a defect of edgekit"
        ) from error
    seen.sort(key=lambda figures: int(figures[1]))
    chosen = [int(figure) for figure in seen[(len(seen) - 1) // 2]]
    return Counts(
        board=board.name,
        instructions=chosen[1],
        mix=InstructionMix(*chosen[CLASSES]) if board.architecture == "aarch64" else None,
        caches=CacheCounts(*chosen[CLASSES.stop :]) if caches else None,
        runs=len(seen),
        spread=float(seen[-1][1] - seen[0][1]) / chosen[1],
    )


@contextmanager
def start_counter(board: Board, *, caches: bool = False, lab: Lab | None = None) -> Iterator[Counter]:
    """A counter on a board: it starts once, which takes seconds, and counts as many models as are wanted.

    Args:
        board: The board.
        caches: Whether data caches are modelled, too, which is several times slower.
        lab: The lab; the user's own where left out.

    Raises:
        LabError: The lab is not set up, cannot count, or the board needs another machine than this.
    """
    place = EmulatedBoard(board, lab)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        out = Path(folder) / "counts"
        with place.start_counting(out, caches=caches) as worker:
            _warm_up(place, worker, Path(folder) / "nothing.onnx")
            yield Counter(place, worker, out, caches)


def count(
    board: Board,
    path: Path,
    feed: Mapping[str, np.ndarray],
    provider: Provider | None = None,
    session: SessionConfig | None = None,
    runs: int = RUNS,
    *,
    caches: bool = False,
    lab: Lab | None = None,
) -> Counts:
    """Counts one call of a model on a board, in a worker of its own; see `start_counter` and `Counter.count`."""
    with start_counter(board, caches=caches, lab=lab) as counter:
        return counter.count(path, feed, provider, session, runs)


def can_count(board: Board, lab: Lab | None = None) -> bool:
    """Whether the lab is set up, has its counting plugin, and this machine can emulate the board."""
    lab = lab or Lab(lab_folder())
    if unfinished(lab) or (board.architecture != "aarch64" and machine().architecture != board.architecture):
        return False
    try:
        build_plugin(lab)
    except LabError:
        return False
    return True


def _warm_up(place: EmulatedBoard, worker: Worker, path: Path) -> None:
    """Calls a model that does nothing, until Python has specialized its own code around a call.

    Without it the first model that is counted executes thousands of instructions more than the next ones.
    """
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("given", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["given"], ["same"])], "nothing", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    opened = worker.open(place.put(path), threads=1)
    opened.count({"given": np.zeros(1, np.float32)}, WARM_UP_RUNS)
    opened.close()


def _read_marks(path: Path) -> dict[int, np.ndarray]:
    """What the plugin has counted up to each mark, by mark: arrays of shape (FIELDS,)."""
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
        whole = [[int(word) for word in line] for line in lines if len(line) == FIELDS]
    except (OSError, ValueError) as error:
        raise LabError(f"read the counts in {path}: {error}; report this as a defect of edgekit") from error
    return {line[0]: np.array(line, np.int64) for line in whole}
