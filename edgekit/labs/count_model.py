"""From counts to milliseconds, where a real board was measured: a model with its error, and nothing at all before that.

A call's time is taken to be a sum of what each class of instructions, each modelled miss and the call itself cost. Costs are never
negative: they are fitted by non-negative least squares (Lawson and Hanson, *Solving Least Squares Problems*, 1974, chapter 23) on
relative errors, so that small models count as much as large ones. Where there are fewer than two points for each cost, they are
held small, too, by a ridge of the strength that leaving points out asks for. The error is that of points left out of the fit.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from edgekit.text_file import write_text
from edgekit_runtime.errors import DeviceError, InputError, OutputError

if TYPE_CHECKING:
    from edgekit.labs.emulated.counts import CacheCounts, InstructionMix

__all__ = [
    "CALL",
    "FEWEST_POINTS",
    "CountModel",
    "Point",
    "Prediction",
    "by_class",
    "find_count_model",
    "fit",
    "load_count_model",
    "model_file",
    "non_negative_least_squares",
    "predict",
    "save_count_model",
]

FORMAT = 1
CALL = "call"
"""The cost of a call, whatever is in it."""

FEWEST_POINTS = 5
POINTS_PER_COST = 2
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MILLION = 1e6
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Beyond what was measured by more than this factor, a model of costs is a guess.
REACH = 2.0


class Point(msgspec.Struct, frozen=True):
    """One network that was counted on an emulated board and timed on a real one.

    Attributes:
        network: Its name.
        counts: Counts of one call by class, and modelled misses.
        latency_ms: Median of one call on the real board.
    """

    network: str
    counts: dict[str, float]
    latency_ms: float


class CountModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a count costs on one board.

    Attributes:
        format: Version of this file.
        board: The board that was measured.
        costs_ms: Milliseconds of a million of each count, and of one call.
        method: How they were fitted.
        networks: The networks behind it.
        error: Median relative error of networks that were left out of the fit, as a share.
        worst_error: The largest of them.
        shortest_ms: The shortest call that was measured.
        longest_ms: The longest one.
    """

    format: int = FORMAT
    board: str
    costs_ms: dict[str, float]
    method: Literal["least squares", "ridge"]
    networks: list[str]
    error: float
    worst_error: float
    shortest_ms: float
    longest_ms: float


class Prediction(msgspec.Struct, frozen=True):
    """A call's time as a model has it.

    Attributes:
        latency_ms: In milliseconds.
        error: Median relative error of networks that were left out of the fit, as a share.
        extrapolated: Whether it is more than twice as long as, or less than half of, anything that was measured.
    """

    latency_ms: float
    error: float
    extrapolated: bool


def by_class(mix: "InstructionMix | None", caches: "CacheCounts | None") -> dict[str, float]:
    """Counts of one call as a model takes them: instructions by class, and misses of both caches.

    Raises:
        InputError: The instructions are not told apart, or caches were not modelled.
    """
    if mix is None or caches is None:
        raise InputError(
            "tell counts by class: instructions of this board are not told apart, or no caches were modelled; take an ARM board"
        )
    classes = {name: float(count) for name, count in msgspec.structs.asdict(mix).items()}
    return {**classes, "l1_misses": float(caches.l1_misses), "l2_misses": float(caches.l2_misses)}


def fit(board: str, points: Sequence[Point]) -> CountModel:
    """Fits a model to networks that were counted and timed.

    Args:
        board: The board that was timed.
        points: At least `FEWEST_POINTS`, with the same counts each.

    Raises:
        InputError: There are too few points, they do not count the same things, or a figure is none.
    """
    what = f"fit times of {board} to counts"
    if len(points) < FEWEST_POINTS:
        raise InputError(
            f"{what}: {len(points)} networks were measured, needed are {FEWEST_POINTS}; bench more of them on the board"
        )
    names = sorted(points[0].counts)
    for point in points:
        if sorted(point.counts) != names:
            raise InputError(f"{what}: {point.network} counts {sorted(point.counts)}, {points[0].network} counts {names}")
        figures = [*point.counts.values(), point.latency_ms]
        if not all(np.isfinite(figure) and figure >= 0 for figure in figures) or point.latency_ms == 0:
            raise InputError(f"{what}: {point.network} has a count or a time that is negative, zero or no number")
    # (points, costs), in millions, and one call each.
    design = np.asarray([[point.counts[name] / MILLION for name in names] + [1.0] for point in points])
    times = np.asarray([point.latency_ms for point in points])
    used = np.flatnonzero(design.any(axis=0))
    if np.linalg.matrix_rank(design[:, used] / design[:, used].max(axis=0)) < min(2, len(used)):
        raise InputError(f"{what}: all networks have the same mix; bench some that differ in size and kind")
    enough = len(points) >= POINTS_PER_COST * len(used)
    ridge = 0.0 if enough else min(RIDGES, key=lambda strength: float(np.mean(_left_out(design, times, strength) ** 2)))
    costs = _costs(design, times, ridge)
    errors = np.abs(_left_out(design, times, ridge))
    return CountModel(
        board=board,
        costs_ms=dict(zip((*names, CALL), (float(cost) for cost in costs), strict=True)),
        method="least squares" if enough else "ridge",
        networks=[point.network for point in points],
        error=float(np.median(errors)),
        worst_error=float(errors.max()),
        shortest_ms=float(times.min()),
        longest_ms=float(times.max()),
    )


def predict(model: CountModel, counts: Mapping[str, float]) -> Prediction:
    """The time of one call with such counts.

    Raises:
        InputError: They are not the counts that the model was fitted to.
    """
    needed = model.costs_ms.keys() - {CALL}
    if counts.keys() != needed:
        raise InputError(
            f"predict a time on {model.board}: got counts of {sorted(counts)}, the model has costs of {sorted(needed)}"
        )
    latency_ms = model.costs_ms[CALL] + sum(model.costs_ms[name] * counts[name] / MILLION for name in needed)
    inside = model.shortest_ms / REACH <= latency_ms <= model.longest_ms * REACH
    return Prediction(latency_ms, model.error, not inside)


def model_file(board: str) -> Path:
    """Where a board's model is: ``edgekit/count_models`` in ``$XDG_DATA_HOME``, or in ``~/.local/share``.

    Raises:
        InputError: `board` is no name of a board.
    """
    if not NAME.fullmatch(board):
        raise InputError(f"find the times of {board!r}: a board's name is made of small letters, digits and hyphens")
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "edgekit" / "count_models" / f"{board}.json"


def save_count_model(model: CountModel) -> Path:
    """Keeps a model for this user; the file.

    Raises:
        OutputError: It could not be written.
    """
    path = model_file(model.board)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"write {path}: {error.strerror or error}") from error
    write_text(path, msgspec.json.format(msgspec.json.encode(model), indent=2).decode() + "\n")
    return path


def find_count_model(board: str) -> CountModel | None:
    """A board's model; ``None`` where no real one was measured.

    Raises:
        DeviceError: There is a file, and it does not hold.
    """
    return load_count_model(board) if model_file(board).exists() else None


def load_count_model(board: str) -> CountModel:
    """A board's model.

    Raises:
        DeviceError: The board was not measured, so that its times are not known; or the file does not hold.
    """
    path = model_file(board)
    try:
        model = msgspec.json.decode(path.read_bytes(), type=CountModel)
    except FileNotFoundError as error:
        raise DeviceError(
            f"predict times on {board}: no real one was measured, and counts are no times; measure networks on one with "
            f"edgekit device calibrate DEVICE --board {board} BUNDLE…"
        ) from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DeviceError(f"predict times on {board}: {path} does not hold: {error}; remove it and fit the model anew") from error
    figures = [*model.costs_ms.values(), model.error, model.shortest_ms, model.longest_ms]
    if model.format != FORMAT or CALL not in model.costs_ms or min(figures) < 0:
        raise DeviceError(f"predict times on {board}: {path} is not of format {FORMAT}; remove it and fit the model anew")
    return model


def non_negative_least_squares(design: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The x ≥ 0 for which ``design @ x`` is nearest to `wanted`.

    Args:
        design: (rows, columns).
        wanted: (rows,).

    Returns:
        (columns,).
    """
    columns = design.shape[1]
    found = np.zeros(columns)
    free = np.zeros(columns, bool)
    slack = 1e-10 * max(1.0, float(np.abs(design.T @ wanted).max(initial=0.0)))
    # Each round frees one column for good or takes others back; more rounds than this only circle among equals.
    for _ in range(10 * columns + 10):
        gradient = design.T @ (wanted - design @ found)
        gradient[free] = -np.inf
        if free.all() or gradient.max() <= slack:
            break
        free[int(gradient.argmax())] = True
        while True:
            trial = np.zeros(columns)
            trial[free] = np.linalg.lstsq(design[:, free], wanted, rcond=None)[0]
            sinking = free & (trial <= 0)
            if not sinking.any():
                break
            steps = found[sinking] / np.maximum(found[sinking] - trial[sinking], np.finfo(float).tiny)
            found = found + float(steps.min()) * (trial - found)
            free &= found > slack * np.finfo(float).eps
            found[~free] = 0.0
        found = trial
    return found


def _costs(design: np.ndarray, times: np.ndarray, ridge: float) -> np.ndarray:
    """Costs in milliseconds, (costs,), of a design of (points, costs); by relative errors."""
    rows = design / times[:, None]
    scale = np.linalg.norm(rows, axis=0)
    scale[scale == 0] = 1.0
    rows = rows / scale
    wanted = np.ones(len(times))
    if ridge:
        rows = np.vstack([rows, np.sqrt(ridge) * np.eye(rows.shape[1])])
        wanted = np.concatenate([wanted, np.zeros(rows.shape[1])])
    costs: np.ndarray = non_negative_least_squares(rows, wanted) / scale
    return costs


def _left_out(design: np.ndarray, times: np.ndarray, ridge: float) -> np.ndarray:
    """Relative error of each point, fitted without it: (points,)."""
    every = np.arange(len(times))
    return np.asarray([design[one] @ _costs(design[every != one], times[every != one], ridge) / times[one] - 1.0 for one in every])
