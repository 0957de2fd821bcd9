"""Deploy: try what suits the target, measure each against float, ship the best inside the budget, and say why."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.building import build_candidates, build_float
from edgekit.calibration_data import feeds_of
from edgekit.candidates import candidates_for
from edgekit.claims import claims_not_made
from edgekit.deployment import CandidateResult, Deployment
from edgekit.environment import environment, tool_versions
from edgekit.evaluation import Evaluation
from edgekit.labs.host import HostLab
from edgekit.lineup import FLOAT, Lineup
from edgekit.measuring_accuracy import compare_outputs, evaluate_all, evaluate_float
from edgekit.measuring_speed import confirm, load_all, screen_all, time_promising
from edgekit.progress import Progress, Quiet
from edgekit.recipe import Arrays, Recipe
from edgekit.recipe_file import load_recipe
from edgekit.source import Source, source_of
from edgekit.target import Measured, Target, load_target
from edgekit.variants import build_variants
from edgekit.verdict import Optimize, Verdict, decide
from edgekit_runtime.errors import OutputError, RecipeError, SessionError
from edgekit_runtime.measurement import Measurement

if TYPE_CHECKING:
    from edgekit_export import Statistics

__all__ = ["deploy"]

# Examples that travel in the bundle.
GOLDEN_EXAMPLES = 3
# Files of candidates that lie beside each other; most are a quarter of the float model, or half.
CANDIDATE_FILES = 10


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    target: Target
    measured: Measured
    max_drop: float
    asked: Optimize
    out: Path

    @property
    def timed(self) -> bool:
        """Whether latency can be measured here."""
        return self.measured == "real"

    @property
    def optimize(self) -> Optimize:
        """What to gain: size where there is no latency to gain."""
        return self.asked if self.timed else "size"


def deploy(
    recipe: Recipe | str | Path,
    *,
    target: str = "host",
    max_drop: float = 0.01,
    out: str | Path | None = None,
    optimize: Optimize = "latency",
    calibration_state: str | Path | None = None,
    progress: Progress | None = None,
) -> Deployment:
    """Deploys a recipe's model to a target.

    Args:
        recipe: A recipe, the path of a recipe file, or of an ``.onnx`` file.
        target: A target's name, or the path of its TOML file.
        max_drop: What the metric may lose against float, in the metric's own unit.
        out: Where the bundle goes; ``NAME.edge`` in the current folder where left out.
        optimize: What to gain: ``latency`` or ``size``.
        calibration_state: A file that keeps what calibration has seen: one that was killed goes on from there, and one that is
            repeated on the same model and data runs nothing.
        progress: Told what is going on.

    Returns:
        Every candidate with its figures and its reason; the bundle lies at ``Deployment.bundle``.

    Raises:
        EdgekitError: One of its kinds, in one clear message; what stood at `out` is untouched then.
    """
    from edgekit_export.swap import check_destination, workspace

    progress = progress or Quiet()
    # What is quickly checked comes first, since tracing and measuring take minutes.
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if not np.isfinite(max_drop) or max_drop < 0:
        raise RecipeError(f"deploy {recipe.name}: max_drop={max_drop}, expected a finite number of at least 0")
    wish = _wish(target, max_drop, optimize, Path(out) if out is not None else Path(f"{recipe.name}.edge"))
    check_destination(wish.out)
    evaluation = Evaluation(recipe) if recipe.evaluation and recipe.metric else None
    with workspace(wish.out) as folder:
        source = source_of(recipe, progress, fixed_shapes=wish.target.fixed_shapes)
        _check_room(folder, source)
        lab, lineup = HostLab(exact=not wish.timed), Lineup()
        load_all(lineup, [build_float(source.prepared, wish.target.provider, folder)], source.example, lab, progress)
        if FLOAT in lineup.failures:
            raise SessionError(f"deploy {recipe.name}: the float model itself does not run: {lineup.failures[FLOAT]}")
        evaluated = evaluate_float(lineup, evaluation, progress) if evaluation else None
        statistics, sample = _calibrate(recipe, source, wish, Path(calibration_state) if calibration_state else None, progress)
        candidates = candidates_for(wish.target, calibrated=statistics is not None, optimize=wish.optimize)
        built = build_candidates(source.prepared, candidates, statistics, folder, progress, sample)
        built += build_variants(recipe, wish.target.provider, folder, progress, fixed_shapes=wish.target.fixed_shapes)
        progress.stage("load each candidate in a process of its own")
        load_all(lineup, built, source.example, lab, progress)
        if wish.timed:
            screen_all(lineup, source.example, lab, progress)
        feeds = evaluated[0].feeds if evaluated else _feeds(source)
        reference = [lineup.models[FLOAT](feed) for feed in feeds]
        compare_outputs(lineup, feeds, reference)
        if evaluation and evaluated:
            evaluate_all(lineup, evaluation, evaluated[1], wish.max_drop, wish.optimize, progress)
        if wish.timed:
            time_promising(lineup, wish.max_drop, source.example, lab, progress)
        verdict = _decide(lineup, wish, source, lab, progress)
        deployment = _deployment(recipe, wish, source, lineup, verdict, evaluation is not None, statistics is not None)
        progress.stage(f"pack {wish.out}")
        _pack(deployment, source, statistics, lineup, feeds, reference, wish, folder)
    return deployment


def _wish(target: str, max_drop: float, optimize: Optimize, out: Path) -> Wish:
    import onnxruntime as ort

    from edgekit_runtime.machine import machine

    chosen = load_target(target)
    measured = chosen.measured_on(machine(), tuple(ort.get_available_providers()))
    return Wish(chosen, measured, max_drop, optimize, out)


def _check_room(folder: Path, source: Source) -> None:
    """Refuses to begin where the disk cannot hold a file for each candidate."""
    values = source.prepared.model.graph.initializers.values()
    needed = CANDIDATE_FILES * sum(value.const_value.nbytes for value in values if value.const_value is not None)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"deploy: the candidates need about {needed / 1e6:.0f} MB beside the output and {free / 1e6:.0f} MB are free; "
            "make room, or choose an --out on another disk"
        )


def _calibrate(
    recipe: Recipe, source: Source, wish: Wish, state: Path | None, progress: Progress
) -> "tuple[Statistics | None, list[Arrays]]":
    """Ranges of all tensors and the first feeds; nothing where the recipe has no data or the target wants nothing static."""
    from edgekit_export import calibrate
    from edgekit_export.sample import Sample

    if recipe.calibration is None or not wish.target.static:
        return None, []
    progress.stage("calibrate")
    data, total = feeds_of(recipe)
    sample = Sample(data)
    statistics = calibrate(
        source.prepared, sample, lambda done: progress.advance(done, total), state=state, on_note=source.notes.append
    )
    return statistics, sample.feeds


def _feeds(source: Source) -> list[Arrays]:
    """What outputs are compared on where there is no evaluation: the example, and values drawn from it."""
    from edgekit_export.example_feeds import resized

    return [source.example, *(resized(source.example, {}, {}, seed) for seed in range(1, GOLDEN_EXAMPLES))]


def _decide(lineup: Lineup, wish: Wish, source: Source, lab: HostLab, progress: Progress) -> Verdict:
    """The verdict, its winner confirmed in timing rounds of its own until one holds."""
    # Each confirmation times float anew; a winner's speed-up is over the float of its own rounds.
    baselines: dict[str, Measurement] = {}
    while True:
        others = [lineup.tried(name) for name in lineup.others]
        verdict = decide(lineup.tried(FLOAT), others, wish.max_drop, wish.optimize)
        if not wish.timed or verdict.chosen == FLOAT:
            return verdict
        if verdict.chosen in baselines:
            lineup.figures[FLOAT] = baselines[verdict.chosen]
            return verdict
        confirm(lineup, verdict.chosen, source.example, lab, progress)
        baselines[verdict.chosen] = lineup.figures[FLOAT]


def _deployment(
    recipe: Recipe, wish: Wish, source: Source, lineup: Lineup, verdict: Verdict, evaluated: bool, calibrated: bool
) -> Deployment:
    lineup.notes[FLOAT] += source.notes
    results = [
        CandidateResult(
            name=name,
            status=verdict.outcomes[name][0],
            reason=verdict.outcomes[name][1],
            measurement=lineup.figures[name],
            kind=built.kind,
            examples=lineup.examples.get(name, 0),
            errors=lineup.errors.get(name, []),
            notes=lineup.notes[name],
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
        claims_not_made=claims_not_made(
            wish.target,
            timed=wish.timed,
            evaluated=evaluated,
            calibrated=calibrated,
            compared_with_torch=source.parity is not None,
            asked_for_latency=wish.asked == "latency",
        ),
        environment=environment(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


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
    built, model = lineup.built[chosen.name], lineup.models[chosen.name]
    assert built.path is not None  # it is open, so it was built
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
