"""What is diagnosed: a model file with how it is opened, its float model, and inputs of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from edgekit.calibration_data import feeds_of
from edgekit.evaluation import Evaluation, Recorder
from edgekit.inspection.model_file import read_model
from edgekit.inspection.quantization import find_quantization
from edgekit.inspection.wiring import Wiring
from edgekit.progress import Progress
from edgekit.recipe import Arrays, Recipe, Run
from edgekit.recipe_file import load_recipe, recipe_from_onnx
from edgekit.scheme_names import scheme_named
from edgekit.source import Source, example_of, source_of
from edgekit_runtime.arrays import read_arrays
from edgekit_runtime.bundle import check_files, is_bundle, read_manifest
from edgekit_runtime.errors import InputError, QuantizationError
from edgekit_runtime.machine import machine
from edgekit_runtime.manifest import InputRange
from edgekit_runtime.model import Model
from edgekit_runtime.selftest import GOLDEN, unpack_golden
from edgekit_runtime.session import CPU, Provider, SessionConfig, open_session
from edgekit_runtime.tensors import FeedCheck

__all__ = ["NOTHING_QUANTIZED", "Subject", "gather"]

NOTHING_QUANTIZED = "nothing in it is quantized: only what makes it slow was looked for, and its inputs"

# Runs that errors are measured on, examples that the metric is asked about, and what all inputs together may weigh.
MOST_FEEDS = 24
MOST_CALIBRATION = 48
MOST_SCORED = 100
MOST_BYTES = 256_000_000
SEED = 0


@dataclass(frozen=True)
class Subject:
    """A model with everything that is known of it.

    Attributes:
        path: The model file.
        provider: What it runs on.
        session: How it is opened.
        feeds: Inputs that it is used on.
        float_path: The float model; ``None`` where there is none, or the model is float itself.
        calibration: Inputs that it was calibrated on.
        ranges: Ranges of these, as its manifest keeps them.
        score: The recipe's metric of a model on some examples.
        notes: What is missing, and what that means.
    """

    path: Path
    provider: Provider
    session: SessionConfig
    feeds: list[Arrays]
    float_path: Path | None = None
    calibration: list[Arrays] = field(default_factory=list)
    ranges: Mapping[str, InputRange] = field(default_factory=dict)
    score: Callable[[Run], float] | None = None
    notes: list[str] = field(default_factory=list)


def gather(
    what: Recipe | str | Path,
    recipe: Recipe | str | Path | None,
    against: str | Path | None,
    *,
    scheme: str | None,
    session: SessionConfig | None,
    folder: Path,
    progress: Progress,
) -> Subject:
    """Reads and builds what a diagnosis needs.

    Args:
        what: A bundle, an ``.onnx`` file, or a recipe, whose model is quantized first.
        recipe: The recipe of a bundle or a file.
        against: The float model of a file, where no recipe makes it.
        scheme: How a recipe's model is quantized; by default as this machine's target does it first.
        session: How the model is opened; by default as its bundle says.
        folder: Where files go.
        progress: Told what is going on.

    Raises:
        EdgekitError: Something of it does not hold; says what.
    """
    own = what if isinstance(what, Recipe) else load_recipe(what) if ".py" in Path(str(what)).suffix else None
    used = own or (load_recipe(recipe) if isinstance(recipe, (str, Path)) else recipe)
    source = source_of(used, progress) if used is not None and (own is not None or against is None) else None
    ranges: Mapping[str, InputRange] = {}
    provider, opened, golden = Provider(), session or SessionConfig(), list[Arrays]()
    calibration = _calibration(used)
    if own is not None:
        assert source is not None
        progress.stage("quantize")
        path = _quantized(own, source, scheme, folder)
    else:
        assert not isinstance(what, Recipe)
        path = Path(what)
        if is_bundle(path):
            manifest = read_manifest(path)
            check_files(path, manifest)
            golden = unpack_golden(read_arrays(path / GOLDEN))[0]
            provider, opened, ranges = manifest.provider, session or manifest.session, manifest.preprocessing
            path = path / manifest.model
    if used is not None:
        _check(path, provider, example_of(used))
    notes: list[str] = []
    float_path = _float_path(path, source, Path(against) if against is not None else None, folder, notes)
    progress.stage("run the model on examples")
    feeds, score = _used_on(used, float_path or path, provider if float_path is None else Provider())
    if not feeds:
        feeds = golden or calibration[:MOST_FEEDS] or [example_of(used or recipe_from_onnx(path))]
        kind = "the bundle's golden inputs" if golden else "calibration data" if calibration else "an example" if used else "noise"
        notes.append(f"measured on {kind}: there is no evaluation; give --recipe with one")
    return Subject(path, provider, opened, feeds, float_path, calibration, ranges, score, notes)


def _calibration(recipe: Recipe | None) -> list[Arrays]:
    if recipe is None or recipe.calibration is None:
        return []
    return _light(
        {name: np.asarray(array) for name, array in feed.items()} for feed in islice(feeds_of(recipe)[0], MOST_CALIBRATION)
    )


def _quantized(recipe: Recipe, source: Source, scheme: str | None, folder: Path) -> Path:
    """The recipe's model in the scheme asked for, or the first that suits it."""
    from edgekit.building import quantize_graph, suits
    from edgekit_export import calibrate

    graph = source.prepared
    flavour = "u8s8" if machine().architecture != "x86_64" or "vnni" in machine().isa else "u8s7"
    names = [scheme] if scheme else [f"static-{flavour}-minmax-convnet", f"static-{flavour}-minmax-weighted"]
    if recipe.calibration is None:
        names = [scheme or f"dynamic-{flavour}"]
    wanted = next((found for name in names if suits(graph, found := scheme_named(name))), None)
    if wanted is None:
        raise QuantizationError(f"diagnose {recipe.name}: {' and '.join(names)} do not suit its graph; give --scheme")
    statistics = calibrate(graph, feeds_of(recipe)[0]) if recipe.calibration is not None else None
    path = folder / f"{wanted.name}.onnx"
    quantize_graph(graph, wanted, statistics, _calibration(recipe)).graph.save(path)
    return path


def _float_path(path: Path, source: Source | None, against: Path | None, folder: Path, notes: list[str]) -> Path | None:
    """The float model's file, for a model that is quantized."""
    if not find_quantization(Wiring(read_model(path).proto)).any:
        notes.append(NOTHING_QUANTIZED)
        return None
    if against is not None:
        read_model(against)
        return against
    if source is None:
        return None
    source.prepared.save(folder / "float32.onnx")
    return folder / "float32.onnx"


def _used_on(recipe: Recipe | None, path: Path, provider: Provider) -> tuple[list[Arrays], Callable[[Run], float] | None]:
    """Inputs of the model while it predicts examples of the evaluation, drawn at random, and the metric on a few of these."""
    if recipe is None or recipe.evaluation is None or recipe.metric is None:
        return [], None
    evaluation = Evaluation(recipe)
    order = [int(index) for index in np.random.default_rng(SEED).permutation(len(evaluation))]
    recorder = Recorder(Model(open_session(path, provider, fallback=CPU), path), MOST_FEEDS)
    for index in order:
        evaluation.predict(recorder, [index])
        if len(recorder.feeds) >= MOST_FEEDS or len(_light(recorder.feeds)) < len(recorder.feeds):
            break
    scored = order[:MOST_SCORED]
    return _light(recorder.feeds), lambda run: evaluation.metric(evaluation.predict(run, scored), scored)


def _light(feeds: Iterable[Arrays]) -> list[Arrays]:
    """The first feeds, up to 256 MB; at least one."""
    kept: list[Arrays] = []
    size = 0
    for feed in feeds:
        size += sum(array.nbytes for array in feed.values())
        if kept and size > MOST_BYTES:
            break
        kept.append(feed)
    return kept


def _check(path: Path, provider: Provider, feed: Arrays) -> None:
    """Refuses a recipe that is of another model."""
    model = Model(open_session(path, provider, fallback=CPU), path)
    try:
        FeedCheck(model.inputs).check(feed)
    except InputError as error:
        raise InputError(f"diagnose {path}: the recipe's example does not fit the model: {error}") from error
