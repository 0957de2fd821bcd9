"""One network: float, onnxruntime's own quantizers and edgekit's schemes, measured side by side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.int8.naive import WAYS, naive, write_feeds
from benchmarks.int8.networks import Network
from edgekit.building import build_float, quantize_graph
from edgekit.calibration_data import feeds_of
from edgekit.evaluation import Evaluation, Recorder
from edgekit.labs.host import PRECISE
from edgekit.progress import Quiet
from edgekit.recipe import Arrays, Recipe
from edgekit.recipe_file import load_recipe
from edgekit.scheme_names import scheme_named
from edgekit.source import Source, source_of
from edgekit_runtime.accuracy import difference
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.measurement import finite
from edgekit_runtime.model import Model
from edgekit_runtime.session import Provider, SessionConfig, open_session
from edgekit_runtime.timing import Ratio, Timings, interleave, speedup

__all__ = ["FLOAT", "NAIVE", "OURS", "ROOT", "Figures", "Measured", "measure"]

ROOT = Path(__file__).resolve().parents[2]
FLOAT, NAIVE, OURS = "float", "naive", "edgekit"
# Outputs are compared on this many of the first feeds of the first metric's evaluation, evenly spread.
RECORDED, COMPARED = 512, 32
ROUNDS = 15


@dataclass
class Figures:
    """One model of a network.

    Attributes:
        kind: Whose it is: float's, onnxruntime's own, or edgekit's.
        metrics: By goal.
        size_ratio: Of its file to float's.
        speed: Float's latency over its own, one thread each.
        speed_all_threads: The same with the threads that onnxruntime would take; of few models only.
        sqnr_db: Outputs against float's, as computed on this machine.
        precise_sqnr_db: The same with kernels that do not saturate (`session.x64quantprecision`).
        spent_s: Building it.
        note: Why it has no figures, or what stayed in float.
    """

    kind: str
    metrics: list[float] = field(default_factory=list)
    size_ratio: float | None = None
    speed: Ratio | None = None
    speed_all_threads: Ratio | None = None
    sqnr_db: float | None = None
    precise_sqnr_db: float | None = None
    spent_s: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """A network's figures, by name of the model, and the share of float's file that is weights."""

    figures: dict[str, Figures]
    weights_share: float


def measure(network: Network, folder: Path, best_of: Callable[[Measured], str | None], tell: Callable[[str], None]) -> Measured:
    """Builds and measures everything that there is to try on a network.

    Args:
        network: Which.
        folder: For the model files.
        best_of: Which of the models is timed with all threads, too.
        tell: Told what is going on.
    """
    recipes = [load_recipe(str(ROOT / goal.recipe)) for goal in network.goals]
    source = source_of(recipes[0], Quiet())
    paths, figures = _build(network, recipes[0], source, folder, tell)
    models: dict[str, Model] = {}
    for name, path in paths.items():
        try:
            models[name] = _open(path)
            models[name](source.example)
        except EdgekitError as error:
            _fail(figures[name], models, name, error)
    _compare_outputs(models, paths, figures, recipes[0])
    for recipe in recipes:
        _evaluate(recipe, models, figures, tell)
    tell(f"time {len(models)} models")
    float_bytes = size_bytes(paths[FLOAT])
    for name, ratio in _speeds(models, source.example, ROUNDS).items():
        figures[name].speed = ratio
        figures[name].size_ratio = size_bytes(paths[name]) / float_bytes
    measured = Measured(figures, _weight_bytes(source) / float_bytes)
    best = best_of(measured)
    if best is not None:
        tell(f"time {best} with all threads")
        models.clear()  # their threads would take cores from those that are timed
        pair = {name: _open(paths[name], threads=None) for name in (FLOAT, best)}
        figures[best].speed_all_threads = _speeds(pair, source.example, ROUNDS)[best]
    return measured


def _build(
    network: Network, recipe: Recipe, source: Source, folder: Path, tell: Callable[[str], None]
) -> tuple[dict[str, Path], dict[str, Figures]]:
    """Model files by name, and a row for each, with the reason where there is no file."""
    from edgekit_export import Sample, calibrate

    tell("calibrate")
    sample = Sample(list(feeds_of(recipe)[0]))
    statistics = calibrate(source.prepared, sample)
    built = build_float(source.prepared, Provider(), folder)
    assert built.path is not None
    paths, figures = {FLOAT: built.path}, {FLOAT: Figures(FLOAT)}
    given = folder / "given.onnx"
    source.traced.save(given)
    feeds = folder / "feeds"
    write_feeds(feeds_of(recipe)[0], feeds)
    for way in WAYS:
        tell(way)
        start = perf_counter()
        failure = naive(way, given, feeds, folder / f"{way}.onnx")
        figures[way] = Figures(NAIVE, spent_s=perf_counter() - start, note=failure or "")
        if failure is None:
            paths[way] = folder / f"{way}.onnx"
    for name in network.schemes:
        tell(name)
        start = perf_counter()
        figures[name] = Figures(OURS)
        try:
            quantized = quantize_graph(source.prepared, scheme_named(name), statistics, sample.feeds)
            paths[name] = folder / f"{name}.onnx"
            quantized.graph.save(paths[name])
            figures[name].note = "; ".join(quantized.notes)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a scheme that cannot be built is a row that says so
            figures[name].note = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        figures[name].spent_s = perf_counter() - start
    return paths, figures


def _open(path: Path, *, threads: int | None = 1, precise: bool = False) -> Model:
    config = SessionConfig(threads=threads, entries=PRECISE if precise else {})
    return Model(open_session(path, Provider(), config), path)


def _fail(figures: Figures, models: dict[str, Model], name: str, error: EdgekitError) -> None:
    if name == FLOAT:
        raise error
    models.pop(name, None)
    figures.note = f"{type(error).__name__}: {error}"


def _compare_outputs(models: Mapping[str, Model], paths: Mapping[str, Path], figures: dict[str, Figures], recipe: Recipe) -> None:
    """SQNR of every model, in this machine's kernels and in precise ones."""
    recorder = Recorder(models[FLOAT], RECORDED)
    evaluation = Evaluation(recipe)
    for index in range(len(evaluation)):
        if len(recorder.feeds) >= RECORDED:
            break
        evaluation.predict(recorder, [index])
    places = np.unique(np.linspace(0, len(recorder.feeds) - 1, COMPARED).round().astype(int))
    feeds, outputs = [recorder.feeds[place] for place in places], [recorder.outputs[place] for place in places]
    for name, model in models.items():
        if name != FLOAT:
            figures[name].sqnr_db = finite(difference([model(feed) for feed in feeds], outputs).sqnr_db)
            try:
                precise = _open(paths[name], precise=True)
                figures[name].precise_sqnr_db = finite(difference([precise(feed) for feed in feeds], outputs).sqnr_db)
            except EdgekitError as error:  # onnxruntime's rewrite to precise kernels stumbles over some graphs of its own
                figures[name].note = f"{figures[name].note}; with precise kernels: {error}".removeprefix("; ")


def _evaluate(recipe: Recipe, models: dict[str, Model], figures: dict[str, Figures], tell: Callable[[str], None]) -> None:
    """Adds the recipe's metric to every model's figures."""
    evaluation = Evaluation(recipe)
    for name in list(models):
        tell(f"evaluate {name} on {recipe.name}")
        try:
            figures[name].metrics.append(evaluation.metric(evaluation.predict(models[name])))
        except EdgekitError as error:
            _fail(figures[name], models, name, error)


def _speeds(models: Mapping[str, Model], example: Arrays, rounds: int) -> dict[str, Ratio]:
    def call(model: Model) -> Callable[[], Any]:
        return lambda: model(example)

    timings: dict[str, Timings] = interleave({name: call(model) for name, model in models.items()}, rounds=rounds)
    return {name: speedup(timings[FLOAT], own) for name, own in timings.items()}


def _weight_bytes(source: Source) -> int:
    from edgekit_export.weights import weights

    return sum(weight.size_bytes for weight in weights(source.prepared))
