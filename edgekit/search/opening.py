"""Opening a search: the graph, its calibration, its ledger, the float model, and feeds to compare outputs on."""

import shutil
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from edgekit.calibration_data import feeds_of
from edgekit.evaluation import Evaluation, Recorder
from edgekit.labs.host import HostLab
from edgekit.lineup import FLOAT, Lineup
from edgekit.progress import Progress
from edgekit.recipe import Arrays, Recipe
from edgekit.search.context import evaluation_digest, search_context
from edgekit.search.ledger import Ledger, ledger_folder
from edgekit.search.search import open_float
from edgekit.search.state import SearchState, Wish
from edgekit.source import Source, source_of
from edgekit_runtime.errors import EvaluationError, OutputError

if TYPE_CHECKING:
    from edgekit_export import Statistics

__all__ = ["GOLDEN_EXAMPLES", "open_search"]

# Examples that travel in the bundle.
GOLDEN_EXAMPLES = 3
# Files of candidates that lie beside each other; most are a quarter of the float model, or half.
CANDIDATE_FILES = 10
# Feeds on which outputs are compared, and about how long running float on them may take.
PARITY_FEEDS = 32
LEAST_PARITY_FEEDS = 4
PARITY_S = 1.0


def open_search(
    recipe: Recipe,
    wish: Wish,
    evaluation: Evaluation | None,
    calibration_state: str | Path | None,
    folder: Path,
    progress: Progress,
    *,
    fresh: bool,
) -> SearchState:
    """A search with the float model in its lineup, and its clock as far on as tracing and calibration took.

    Args:
        recipe: The recipe.
        wish: What the user asked for.
        evaluation: Its examples and metric, if it has them.
        calibration_state: A file for what calibration has seen; the cache folder's own where left out.
        folder: Beside the output, where the bundle is made.
        progress: Where to say what is going on.
        fresh: Forget what an earlier run has measured.

    Raises:
        EdgekitError: The model cannot be traced, calibrated or run.
    """
    start = perf_counter()
    source = source_of(recipe, progress, fixed_shapes=wish.target.fixed_shapes)
    _check_room(folder, source)
    statistics, sample = _calibrate(recipe, source, wish, Path(calibration_state) if calibration_state else None, progress)
    lab = HostLab(wish.seed, exact=not wish.timed)
    context = search_context(source.prepared, statistics, sample, source.example, wish.measured)
    ledger = Ledger(ledger_folder(), context)
    if fresh:
        ledger.clear()
    state = SearchState(recipe, source, wish, lab, ledger, Lineup(lab), evaluation, statistics, sample, progress)
    spent = perf_counter() - start
    # A resumed search counts what tracing took the first time: its decisions must not depend on how often it was killed.
    ledger.charge("trace and calibrate", spent)
    state.evaluated = evaluation_digest(recipe, evaluation.examples) if evaluation is not None else ""
    open_float(state)
    _find_feeds(state)
    return state


def _find_feeds(state: SearchState) -> None:
    """What outputs are compared on: the first feeds of the evaluation, or the example and values drawn from it."""
    floats = state.lineup.model(FLOAT)
    start = perf_counter()
    first = floats(state.source.example)
    wanted = int(np.clip(PARITY_S / max(perf_counter() - start, 1e-6), LEAST_PARITY_FEEDS, PARITY_FEEDS))
    # Later runs compare on as many, or their figures would be others.
    wanted = state.ledger.remember("count of feeds to compare on", state.evaluated, lambda: wanted, int)
    if state.evaluation is None:
        from edgekit_export.example_feeds import resized

        state.feeds = [state.source.example, *(resized(state.source.example, {}, {}, seed) for seed in range(1, GOLDEN_EXAMPLES))]
        state.outputs = [first, *(floats(feed) for feed in state.feeds[1:])]
        return
    recorder = Recorder(floats, wanted)
    for index in range(min(wanted, len(state.evaluation))):
        state.evaluation.predict(recorder, [index])
        if len(recorder.feeds) >= wanted:
            break
    if not recorder.feeds:
        raise EvaluationError("evaluate float32: the recipe's predict() never calls run(feed), so no model is evaluated by it")
    state.feeds, state.outputs = recorder.feeds, recorder.outputs


def _check_room(folder: Path, source: Source) -> None:
    """Refuses to begin where the disk cannot hold a file for each candidate."""
    values = source.prepared.model.graph.initializers.values()
    needed = CANDIDATE_FILES * sum(value.const_value.nbytes for value in values if value.const_value is not None)
    for where in (folder, _existing(ledger_folder())):
        free = shutil.disk_usage(where).free
        if free < needed:
            raise OutputError(
                f"deploy: the candidates need about {needed / 1e6:.0f} MB in the cache folder and beside the output, and "
                f"{free / 1e6:.0f} MB are free; make room, choose an --out on another disk, or set EDGEKIT_CACHE"
            )


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _calibrate(
    recipe: Recipe, source: Source, wish: Wish, state: Path | None, progress: Progress
) -> "tuple[Statistics | None, list[Arrays]]":
    """Ranges of all tensors and the first feeds; nothing where the recipe has no data or the target wants nothing static."""
    from edgekit_export import calibrate
    from edgekit_export.calibration.saved_state import fingerprint
    from edgekit_export.sample import Sample

    if recipe.calibration is None or not wish.target.static:
        return None, []
    progress.stage("calibrate")
    data, total = feeds_of(recipe)
    sample = Sample(data)
    if state is None:
        state = ledger_folder() / f"calibration-{fingerprint(source.prepared, [])[:32]}" / "state.npz"
        state.parent.mkdir(parents=True, exist_ok=True)
    statistics = calibrate(
        source.prepared, sample, lambda done: progress.advance(done, total), state=state, on_note=source.notes.append
    )
    return statistics, sample.feeds
