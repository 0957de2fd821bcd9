"""Deploy: try what suits the target, measure each against float, ship the best inside the budget, and say why."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edgekit.claims import claims_not_made
from edgekit.deployment import CandidateResult, Deployment, EarlierFigures
from edgekit.environment import environment, tool_versions
from edgekit.evaluation import Evaluation
from edgekit.labs.empty_process import empty_rss_bytes
from edgekit.lineup import FLOAT
from edgekit.progress import Progress, Quiet
from edgekit.recipe import Recipe
from edgekit.recipe_file import load_recipe
from edgekit.search.examining import Examination, examine
from edgekit.search.finals import confirm_start, confirmation
from edgekit.search.ledger import Ledger, ledger_folder, prune
from edgekit.search.opening import GOLDEN_EXAMPLES, open_search
from edgekit.search.search import search
from edgekit.search.state import SearchState, Wish
from edgekit.search.words import session_in_words
from edgekit.target import Target, load_target
from edgekit.variants import build_variants
from edgekit.verdict import Optimize, Verdict, decide
from edgekit_runtime.errors import RecipeError
from edgekit_runtime.measurement import Measurement

__all__ = ["TIME_BUDGET_S", "deploy"]

TIME_BUDGET_S = 150.0


def deploy(
    recipe: Recipe | str | Path,
    *,
    target: str = "host",
    max_drop: float = 0.01,
    out: str | Path | None = None,
    optimize: Optimize = "latency",
    pick: str | None = None,
    time_budget_s: float = TIME_BUDGET_S,
    seed: int = 0,
    fresh: bool = False,
    calibration_state: str | Path | None = None,
    progress: Progress | None = None,
) -> Deployment:
    """Deploys a recipe's model to a target.

    Everything that is measured is kept in a cache folder as it is measured (``$EDGEKIT_CACHE``, or ``edgekit`` in the user's cache
    folder). A run that was killed and is repeated goes on where it was, and comes to the verdict that it would have come to; one
    that had finished is repeated in seconds, with the same figures.

    Args:
        recipe: A recipe, the path of a recipe file, or of an ``.onnx`` file.
        target: A target's name, or the path of its TOML file.
        max_drop: What the metric may lose against float, in the metric's own unit.
        out: Where the bundle goes; ``NAME.edge`` in the current folder where left out.
        optimize: What to gain: ``latency``, ``size`` or ``memory``.
        pick: The name of a candidate that ships whatever the verdict would be.
        time_budget_s: Seconds for the search, tracing and calibration included. What was begun is finished; float, and the
            confirmation of what ships, are always measured.
        seed: Seed of the order within timing rounds.
        fresh: Measure everything anew, whatever an earlier run has left.
        calibration_state: A file that keeps what calibration has seen; by default it lies in the cache folder.
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
    for name, value in (("max_drop", max_drop), ("time_budget_s", time_budget_s)):
        if not np.isfinite(value) or value < 0:
            raise RecipeError(f"deploy {recipe.name}: {name}={value}, expected a finite number of at least 0")
    wish = _wish(
        target, max_drop, optimize, Path(out) if out is not None else Path(f"{recipe.name}.edge"), pick, time_budget_s, seed
    )
    check_destination(wish.out)
    evaluation = Evaluation(recipe) if recipe.evaluation and recipe.metric else None
    with workspace(wish.out) as folder:
        state = open_search(recipe, wish, evaluation, calibration_state, folder, progress, fresh=fresh)
        variants = build_variants(recipe, wish.target.provider, folder, progress, fixed_shapes=wish.target.fixed_shapes)
        search(state, variants)
        empty = empty_rss_bytes() if wish.optimize == "memory" else None
        verdict = _decide(state, empty)
        deployment = _deployment(state, verdict, empty, examine(state, verdict.chosen))
        if earlier := _earlier_figures(state.ledger):
            progress.stage(f"{earlier.measurements} of {earlier.of} measurements are from an earlier run; --fresh takes them anew")
        progress.stage(f"pack {wish.out}")
        _pack(deployment, state, folder)
    prune(ledger_folder(), state.ledger.folder)
    return deployment


def _wish(target: str, max_drop: float, optimize: Optimize, out: Path, pick: str | None, budget_s: float, seed: int) -> Wish:
    from edgekit_runtime.machine import machine
    from edgekit_runtime.plugins import available_providers

    chosen = load_target(target)
    measured = chosen.measured_on(machine(), available_providers())
    # For size alone nothing is counted, and nothing may say that it was.
    board = _board(chosen) if measured != "real" and optimize == "latency" else None
    return Wish(chosen, "emulated" if board else measured, max_drop, optimize, out, pick, budget_s, seed, board)


def _board(target: Target) -> str | None:
    """The emulated board that is this target, where the lab is set up and counts."""
    from edgekit.labs.emulated.boards import board_names, load_board

    if target.name not in board_names():
        return None
    from edgekit.labs.emulated.counts import can_count

    return target.name if can_count(load_board(target.name)) else None


def _decide(state: SearchState, empty: int | None) -> Verdict:
    """The verdict, its winner confirmed in timing rounds of its own until one holds."""
    lineup, wish = state.lineup, state.wish
    # Each confirmation times float anew; a winner's speed-up is over the float of its own rounds.
    baselines: dict[str, Measurement] = {}
    started = set()
    while True:
        others = [lineup.tried(name) for name in lineup.others]
        verdict = decide(lineup.tried(FLOAT), others, wish.max_drop, wish.optimize, pick=wish.pick, empty_rss_bytes=empty)
        chosen = verdict.chosen
        if not wish.timed or chosen == FLOAT:
            return verdict
        if chosen not in baselines:
            confirmed = confirmation(state, chosen)
            baselines |= dict.fromkeys(confirmed, lineup.figures[FLOAT])
        elif chosen not in started:
            confirm_start(state, chosen)
            started.add(chosen)
        else:
            of_its_rounds = baselines[chosen]
            lineup.update(FLOAT, latency_ms=of_its_rounds.latency_ms, latency_p99_ms=of_its_rounds.latency_p99_ms)
            return verdict


def _deployment(state: SearchState, verdict: Verdict, empty: int | None, seen: Examination) -> Deployment:
    lineup, wish, source = state.lineup, state.wish, state.source
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
            stage=lineup.stages[name],
            provider=built.candidate.provider.name,
            session=session_in_words(built.candidate.session),
        )
        for name, built in lineup.built.items()
    ]
    return Deployment(
        bundle=str(wish.out),
        name=state.recipe.name,
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
            counted=wish.board is not None,
            evaluated=state.evaluation is not None,
            calibrated=state.statistics is not None,
            compared_with_torch=source.parity is not None,
            asked_for_latency=wish.asked == "latency",
        ),
        environment={**environment(), **_from_before(state.ledger)},
        earlier_figures=_earlier_figures(state.ledger),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        front=verdict.front,
        picked=verdict.picked,
        empty_rss_bytes=empty,
        operator_times=seen.operators,
        sensitivity=seen.sensitivity,
        findings=seen.findings,
        seed=wish.seed,
        budget_s=wish.budget_s,
        spent_s=round(state.ledger.spent_s, 1),
    )


def _earlier_figures(ledger: Ledger) -> EarlierFigures | None:
    """How many of the figures were not measured now."""
    return EarlierFigures(ledger.found, ledger.found + ledger.made) if ledger.found else None


def _from_before(ledger: Ledger) -> dict[str, str]:
    """The same as a line for the report."""
    earlier = _earlier_figures(ledger)
    return {"from an earlier run": f"{earlier.measurements} of {earlier.of} measurements"} if earlier else {}


def _pack(deployment: Deployment, state: SearchState, folder: Path) -> None:
    from edgekit.report import render
    from edgekit_export import Contents, pack, required_isa
    from edgekit_runtime.manifest import Chosen

    chosen, source = deployment.chosen, state.source
    built, model = state.lineup.built[chosen.name], state.lineup.model(chosen.name)
    assert built.path is not None  # it is open, so it was built
    golden = state.feeds[:GOLDEN_EXAMPLES]
    contents = Contents(
        name=deployment.name,
        model=built.path,
        inputs=source.prepared.inputs,
        outputs=source.prepared.outputs,
        target=deployment.target,
        provider=built.candidate.provider,
        session=built.candidate.session,
        preprocessing=state.statistics.inputs if state.statistics else {},
        isa=required_isa(built.candidate.scheme),
        chosen=Chosen(
            chosen.name,
            deployment.verdict,
            deployment.reason,
            deployment.certified,
            chosen.measurement,
            deployment.max_drop,
            chosen.examples,
            deployment.claims_not_made,
        ),
        baseline=deployment.baseline,
        tools=tool_versions(),
        golden_inputs=golden,
        golden_floats=state.outputs[:GOLDEN_EXAMPLES],
        golden_outputs=[model(feed) for feed in golden],
        report=render(deployment),
    )
    pack(contents, folder / "bundle", state.wish.out)
