"""The verb that decides: deploy."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgekit.cli.app import app
from edgekit.cli.options import CalibrationState, Debug, Json, Quiet, RecipeArgument
from edgekit.cli.outcome import finish
from edgekit.progress import progress_for

__all__ = ["deploy"]


@app.command()
def deploy(
    recipe: RecipeArgument,
    target: Annotated[str, typer.Option(help="A target's name, or the path of its .toml file.")] = "host",
    max_drop: Annotated[float, typer.Option(min=0.0, help="What the metric may lose against float, in its own unit.")] = 0.01,
    out: Annotated[Path | None, typer.Option(help="Where the bundle goes (default: NAME.edge).")] = None,
    optimize: Annotated[Literal["latency", "size", "memory"], typer.Option(help="What to gain.")] = "latency",
    pick: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ship the candidate of this name, whatever gates it does not pass.")
    ] = None,
    time_budget: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="How long to search; what was begun is finished.")
    ] = 150.0,
    seed: Annotated[int, typer.Option(help="Seed of the order within timing rounds.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure everything anew, whatever an earlier run has left.")] = False,
    require_int8: Annotated[bool, typer.Option("--require-int8", help="Exit with 3 unless integers ship.")] = False,
    require_certified: Annotated[
        bool, typer.Option("--require-certified", help="Exit with 3 unless the verdict is certified.")
    ] = False,
    calibration_state: CalibrationState = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Try what suits the target, measure each way against float, ship the best inside the budget, say why."""
    from edgekit.cli.tables import show_deployment

    def work() -> Any:
        from edgekit.commands.deploy import deploy as run

        with progress_for(quiet) as progress:
            return run(
                recipe,
                target=target,
                max_drop=max_drop,
                out=out,
                optimize=optimize,
                pick=pick,
                time_budget_s=time_budget,
                seed=seed,
                fresh=fresh,
                calibration_state=calibration_state,
                progress=progress,
            )

    def gates(deployment: Any) -> list[str]:
        missed = []
        if require_int8 and deployment.verdict not in ("int8", "int4", "mixed"):
            missed.append(f"--require-int8: {deployment.reason}")
        if require_certified and not deployment.certified:
            missed.append(f"--require-certified: {deployment.reason}")
        return missed

    finish(work, document=lambda result: result.document(), show=show_deployment, as_json=json, debug=debug, gates=gates)
