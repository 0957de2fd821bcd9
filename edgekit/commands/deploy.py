"""Deploy: try what suits the target, measure each against float, ship the best inside the budget, and say why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edgekit.building import Built, build_candidates, build_float
from edgekit.candidates import candidates_for
from edgekit.deployment import CandidateResult, Deployment, ErrorHistogram
from edgekit.environment import environment, tool_versions
from edgekit.evaluation import Evaluation, Recorder
from edgekit.labs.host import HostLab
from edgekit.measuring import Lineup, compare_outputs, confirm, evaluate_all, load_all, time_all
from edgekit.progress import Progress, Quiet
from edgekit.recipe import Arrays, Recipe
from edgekit.recipe_file import load_recipe
from edgekit.source import Source, source_of
from edgekit.target import Measured, Target, load_target
from edgekit.verdict import Optimize, Tried, Verdict, decide
from edgekit_runtime.errors import CalibrationError, OutputError, RecipeError, SessionError

if TYPE_CHECKING:
    from edgekit_export import Statistics

__all__ = ["deploy"]

FLOAT = "float32"
# Feeds on which outputs are compared, and examples that travel in the bundle.
PARITY_FEEDS = 32
GOLDEN_EXAMPLES = 3


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    target: Target
    measured: Measured
    max_drop: float
    optimize: Optimize
    out: Path

    @property
    def timed(self) -> bool:
        """Whether latency can be measured here."""
        return self.measured == "real"


def deploy(
    recipe: Recipe | str | Path,
    *,
    target: str = "host",
    max_drop: float = 0.01,
    out: str | Path | None = None,
    optimize: Optimize = "latency",
    progress: Progress | None = None,
) -> Deployment:
    """Deploys a recipe's model to a target.

    Args:
        recipe: A recipe, the path of a recipe file, or of an ``.onnx`` file.
        target: A target's name, or the path of its TOML file.
        max_drop: What the metric may lose against float, in the metric's own unit.
        out: Where the bundle goes; ``NAME.edge`` in the current folder where left out.
        optimize: What to gain: ``latency`` or ``size``.
        progress: Told what is going on.

    Returns:
        Every candidate with its figures and its reason; the bundle lies at ``Deployment.bundle``.

    Raises:
        EdgekitError: One of its kinds, in one clear message; what stood at `out` is untouched then.
    """
    from edgekit_export.swap import check_destination, workspace

    progress = progress or Quiet()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if not np.isfinite(max_drop) or max_drop < 0:
        raise RecipeError(f"deploy {recipe.name}: max_drop={max_drop}, expected a finite number of at least 0")
    wish = _wish(target, max_drop, optimize, Path(out) if out is not None else Path(f"{recipe.name}.edge"))
    check_destination(wish.out)
    # The user's data is looked at before the long work begins.
    evaluation = Evaluation(recipe) if recipe.evaluation and recipe.metric else None
    with workspace(wish.out) as folder:
        source = source_of(recipe, progress, fixed_shapes=wish.target.fixed_shapes)
        _check_room(folder, source)
        statistics = _calibrate(recipe, source, wish, progress)
        built = [build_float(source.prepared, wish.target.provider, folder)]
        candidates = candidates_for(wish.target, calibrated=statistics is not None)
        built += build_candidates(source.prepared, candidates, statistics, folder, progress)
        lab = HostLab(exact=not wish.timed)
        lineup = load_all(built, source.example, lab, progress)
        if FLOAT in lineup.failures:
            raise SessionError(f"deploy {recipe.name}: the float model itself does not run: {lineup.failures[FLOAT]}")
        if wish.timed:
            time_all(lineup, FLOAT, source.example, lab, progress)
        feeds, reference, errors = _measure_accuracy(lineup, source, evaluation, wish, progress)
        verdict = _decide(lineup, wish, source, lab, progress)
        deployment = _deployment(recipe, wish, source, statistics, evaluation, lineup, verdict, errors)
        progress.stage(f"pack {wish.out}")
        _pack(deployment, source, statistics, lineup, feeds, reference, wish, folder)
    return deployment


def _wish(target: str, max_drop: float, optimize: Optimize, out: Path) -> Wish:
    import onnxruntime as ort

    from edgekit_runtime.machine import machine

    chosen = load_target(target)
    measured = chosen.measured_on(machine(), tuple(ort.get_available_providers()))
    return Wish(chosen, measured, max_drop, optimize if measured == "real" else "size", out)


def _check_room(folder: Path, source: Source) -> None:
    """Refuses to begin where the disk cannot hold a file for each candidate."""
    import shutil

    values = source.prepared.model.graph.initializers.values()
    needed = 10 * sum(value.const_value.nbytes for value in values if value.const_value is not None)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"deploy: the candidates need about {needed / 1e6:.0f} MB beside the output and {free / 1e6:.0f} MB are free; "
            "make room, or choose an --out on another disk"
        )


def _calibrate(recipe: Recipe, source: Source, wish: Wish, progress: Progress) -> "Statistics | None":
    """Ranges of all tensors; nothing where the recipe has no data or the target wants nothing static."""
    from edgekit_export import calibrate

    if recipe.calibration is None or not wish.target.static:
        return None
    progress.stage("calibrate")
    try:
        data = recipe.calibration()
    except Exception as error:
        raise CalibrationError(f"recipe {recipe.name}: calibration() raised {type(error).__name__}: {error}") from error
    if not hasattr(data, "__iter__"):
        raise CalibrationError(f"recipe {recipe.name}: calibration() gave {type(data).__name__}, expected an iterable of feeds")
    total = len(cast("Any", data)) if hasattr(data, "__len__") else None
    return calibrate(source.prepared, data, lambda done: progress.advance(done, total))


def _measure_accuracy(
    lineup: Lineup, source: Source, evaluation: Evaluation | None, wish: Wish, progress: Progress
) -> tuple[list[Arrays], list[Arrays], dict[str, list[ErrorHistogram]]]:
    """Fills in parity and metric; gives the feeds to compare on, the float model's outputs, and error distributions."""
    from edgekit_export.example_feeds import resized

    model = lineup.models[FLOAT]
    if evaluation is None:
        feeds = [source.example, *(resized(source.example, {}, {}, seed) for seed in range(1, GOLDEN_EXAMPLES))]
        reference = [model(feed) for feed in feeds]
        return feeds, reference, compare_outputs(lineup, FLOAT, feeds, reference)
    progress.stage("evaluate float32")
    recorder = Recorder(model, PARITY_FEEDS)
    predictions = evaluation.predict(recorder, None, progress.advance)
    lineup.examples[FLOAT] = len(evaluation)
    lineup.update(FLOAT, metric=evaluation.metric(predictions), metric_drop=0.0, metric_drop_ci=(0.0, 0.0))
    errors = compare_outputs(lineup, FLOAT, recorder.feeds, recorder.outputs)
    slower = {
        name: wish.optimize == "latency" and figures.speedup_ci is not None and figures.speedup_ci[1] < 1.0
        for name, figures in lineup.figures.items()
    }
    evaluate_all(lineup, FLOAT, evaluation, predictions, wish.max_drop, slower, progress)
    return recorder.feeds, recorder.outputs, errors


def _decide(lineup: Lineup, wish: Wish, source: Source, lab: HostLab, progress: Progress) -> Verdict:
    """The verdict, its winner confirmed in timing rounds of its own until one holds."""
    confirmed: set[str] = set()
    while True:
        verdict = decide(
            _tried(lineup, FLOAT), [_tried(lineup, n) for n in lineup.built if n != FLOAT], wish.max_drop, wish.optimize
        )
        if not wish.timed or verdict.chosen == FLOAT or verdict.chosen in confirmed:
            return verdict
        confirm(lineup, FLOAT, verdict.chosen, source.example, lab, progress)
        confirmed.add(verdict.chosen)


def _tried(lineup: Lineup, name: str) -> Tried:
    return Tried(name, lineup.built[name].kind, lineup.figures[name], lineup.examples.get(name, 0), lineup.failures.get(name))


def _deployment(
    recipe: Recipe,
    wish: Wish,
    source: Source,
    statistics: "Statistics | None",
    evaluation: Evaluation | None,
    lineup: Lineup,
    verdict: Verdict,
    errors: dict[str, list[ErrorHistogram]],
) -> Deployment:
    results = [
        CandidateResult(
            name=name,
            status=verdict.outcomes[name][0],
            reason=verdict.outcomes[name][1],
            measurement=lineup.figures[name],
            kind=built.kind,
            examples=lineup.examples.get(name, 0),
            errors=errors.get(name, []),
            notes=list(built.notes),
        )
        for name, built in lineup.built.items()
    ]
    return Deployment(
        bundle=str(wish.out),
        name=recipe.name,
        target=wish.target.name,
        measured=wish.measured,
        verdict=verdict.kind,
        reason=verdict.reason,
        certified=verdict.certified,
        max_drop=wish.max_drop,
        optimize=wish.optimize,
        baseline=lineup.figures[FLOAT],
        candidates=results,
        claims_not_made=_claims_not_made(wish, source, statistics, evaluation),
        environment=environment(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _claims_not_made(wish: Wish, source: Source, statistics: "Statistics | None", evaluation: Evaluation | None) -> list[str]:
    """What was not measured and is therefore not claimed."""
    claims = list(source.notes)
    if evaluation is None:
        claims.append("accuracy: the recipe has no evaluation or no metric, so only the distance of outputs is known")
    if statistics is None and wish.target.static:
        claims.append("static int8: the recipe has no calibration data, so only dynamic schemes were tried")
    if source.parity is None:
        claims.append("parity with PyTorch: the recipe starts from an ONNX file, so float is that file")
    if not wish.timed:
        claims.append(
            f"latency: {wish.target.name} cannot be timed on this machine; accuracy was computed here in exact integer semantics, "
            "and the smallest candidate inside the budget ships"
        )
    return claims


def _pack(
    deployment: Deployment,
    source: Source,
    statistics: "Statistics | None",
    lineup: Lineup,
    feeds: Sequence[Arrays],
    reference: Sequence[Arrays],
    wish: Wish,
    folder: Path,
) -> None:
    from edgekit.report import render
    from edgekit_export import Contents, pack, required_isa
    from edgekit_runtime.manifest import Chosen

    chosen = deployment.chosen
    built: Built = lineup.built[chosen.name]
    model = lineup.models[chosen.name]
    assert built.path is not None
    golden = list(feeds[:GOLDEN_EXAMPLES])
    contents = Contents(
        name=deployment.name,
        model=built.path,
        inputs=source.prepared.inputs,
        outputs=source.prepared.outputs,
        target=deployment.target,
        provider=built.candidate.provider,
        session=built.candidate.session,
        preprocessing=statistics.inputs if statistics else {},
        isa=required_isa(built.candidate.scheme),
        chosen=Chosen(chosen.name, deployment.verdict, deployment.reason, deployment.certified, chosen.measurement),
        baseline=deployment.baseline,
        tools=tool_versions(),
        golden_inputs=golden,
        golden_floats=list(reference[:GOLDEN_EXAMPLES]),
        golden_outputs=[model(feed) for feed in golden],
        report=render(deployment),
    )
    pack(contents, folder / "bundle", wish.out)
