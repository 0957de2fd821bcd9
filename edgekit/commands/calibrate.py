"""``edgekit device calibrate``: what counts cost on a real board, fitted to bundles that were timed there and counted here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgekit.labs.count_model import FEWEST_POINTS, CountModel, Point, by_class, fit, save_count_model
from edgekit.labs.emulated.boards import Board, load_board
from edgekit.labs.emulated.counts import Counter, Counts, start_counter
from edgekit.labs.place import Place
from edgekit.labs.placed import PlacedBenchmark
from edgekit.progress import Progress, Quiet
from edgekit_runtime.errors import DeviceError, InputError

__all__ = ["Calibration", "calibrate_device"]

Bench = Callable[[Place, Path], PlacedBenchmark]
Count = Callable[[Board, Sequence[Path]], list[Counts]]
# What the firmware says of now, and not of the time since the board was booted.
HELD_BACK = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What a calibration came to.

    Attributes:
        device: The device that was timed.
        board: The emulated board whose counts now have a cost.
        saved: The file that keeps the model.
        error: Median relative error of networks that were left out of the fit, as a share.
        worst_error: The largest of them.
        method: How it was fitted.
        points: Each network with its time, with one thread, and its instructions.
        warnings: What makes the figures doubtful.
    """

    device: str
    board: str
    saved: str
    error: float
    worst_error: float
    method: str
    points: list[Point]
    warnings: list[str]


def calibrate_device(
    name: str,
    board: str,
    bundles: Sequence[str | Path],
    *,
    rounds: int = 25,
    check_isa: bool = True,
    progress: Progress | None = None,
    place: Place | None = None,
    bench: Bench | None = None,
    count: Count | None = None,
) -> Calibration:
    """Times bundles on a device with one thread, counts them on the emulated board, fits a model of costs and keeps it.

    Args:
        name: A device that was added.
        board: The emulated board that it is one of.
        bundles: At least `FEWEST_POINTS` bundles or models that differ in size and kind.
        rounds: Timed rounds of about 10 ms each.
        check_isa: Refuse bundles whose figures do not hold there.
        progress: Told what is going on.
        place: The device, where it was found already.
        bench: Times a bundle; by default `edgekit.labs.placed.bench_at`.
        count: Counts bundles; by default in the user's lab.

    Raises:
        InputError: There are too few bundles, one comes twice, or they are too much alike.
        DeviceError: It is no device, not such a board, or not reached.
        LabError: The board is unknown, or the lab does not count.
    """
    told = progress or Quiet()
    what = f"calibrate {board} by {name}"
    paths = [Path(bundle) for bundle in bundles]
    if len({path.resolve() for path in paths}) != len(paths):
        raise InputError(f"{what}: a bundle is named twice; each counts once")
    if len(paths) < FEWEST_POINTS:
        raise InputError(
            f"{what}: {len(paths)} bundles are too few to tell what counts cost, needed are {FEWEST_POINTS} or more that differ in "
            "size and kind; deploy more, or add .onnx files"
        )
    emulated = load_board(board)
    if emulated.architecture != "aarch64":
        raise InputError(f"{what}: instructions of {emulated.architecture} are counted and not told apart; name an ARM board")
    where = place or _device(name, what, progress)

    # Counting first: it needs nobody else's machine, and shows at once that the lab is not set up.
    told.stage(f"count {len(paths)} models on {board}")
    counts = (count or _count)(emulated, paths)
    points, warnings = [], []
    for done, (path, counted) in enumerate(zip(paths, counts, strict=True), start=1):
        figures = (bench or _bencher(rounds, check_isa, told))(where, path)
        _check_board(what, figures, emulated)
        points.append(Point(path.name, by_class(counted.mix, counted.caches), figures.latency_ms))
        now = [flag for flag in figures.health_after.throttling or [] if flag in HELD_BACK]
        if now:
            warnings.append(
                f"{path.name}: the board was held back while it was timed ({', '.join(now)}); cool it, or feed it better"
            )
        told.advance(done, len(paths))
    model: CountModel = fit(board, points)
    return Calibration(
        device=name,
        board=board,
        saved=str(save_count_model(model)),
        error=model.error,
        worst_error=model.worst_error,
        method=model.method,
        points=points,
        warnings=warnings,
    )


def _device(name: str, what: str, progress: Progress | None) -> Place:
    from edgekit.labs.place import find_place

    place = find_place(name, progress)
    if place.kind != "device":
        raise DeviceError(f"{what}: {name} is no device; times come from a real board: edgekit device add NAME ssh://user@address")
    return place


def _check_board(what: str, figures: PlacedBenchmark, board: Board) -> None:
    """Counts of one processor have no cost on another."""
    seen = figures.machine
    if figures.kind != "device" or seen.architecture != board.architecture or set(seen.isa) != set(board.isa):
        has = ", ".join(seen.isa) or "no instruction sets that are known"
        raise DeviceError(
            f"{what}: {figures.place} is {seen.cpu}, {seen.architecture} with {has}; {board.name} is {board.architecture} with "
            f"{', '.join(board.isa)}; name the board that it is, as edgekit lab list has them"
        )


def _bencher(rounds: int, check_isa: bool, progress: Progress) -> Bench:
    from edgekit.labs.placed import bench_at

    def bench(place: Place, path: Path) -> PlacedBenchmark:
        return bench_at(place, path, rounds=rounds, threads=1, check_isa=check_isa, progress=progress)

    return bench


def _count(board: Board, paths: Sequence[Path]) -> list[Counts]:
    with start_counter(board, caches=True) as counter:
        return [_counted(counter, path) for path in paths]


def _counted(counter: Counter, path: Path) -> Counts:
    from edgekit_runtime.benchmark import example_feed
    from edgekit_runtime.model import load

    # The same feed as the board's own bench takes: the first golden example, or random values.
    return counter.count(path, example_feed(load(path, check_isa=False)))
