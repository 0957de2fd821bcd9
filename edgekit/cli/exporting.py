"""The verbs that write one model file: export and quantize."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.app import app
from edgekit.cli.options import CalibrationState, Debug, Json, Quiet, RecipeArgument
from edgekit.cli.outcome import finish_plainly
from edgekit.cli.scheme_help import QUANTIZE_HELP
from edgekit.progress import progress_for

__all__ = ["export", "quantize"]


@app.command()
def export(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(help="The .onnx file to write (default: NAME.onnx).")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Export a module to a float ONNX file that was compared with it, or prepare an .onnx file for int8."""

    def work() -> Any:
        from edgekit.commands.export import export as run

        with progress_for(quiet) as progress:
            return run(recipe, out=out, progress=progress)

    finish_plainly(work, json, debug)


@app.command(help=QUANTIZE_HELP)
def quantize(
    recipe: RecipeArgument,
    scheme: Annotated[str, typer.Option(metavar="NAME", help="The scheme, as deploy names candidates; see above.")],
    out: Annotated[Path | None, typer.Option(help="The .onnx file to write (default: NAME-SCHEME.onnx).")] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Feeds for static schemes: a folder of .npz files, or one .npz whose first axis counts examples."),
    ] = None,
    spare: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="A node to leave in float all the same; may be given several times.")
    ] = None,
    calibration_state: CalibrationState = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Quantize in one scheme."""

    def work() -> Any:
        from edgekit.commands.quantize import quantize as run

        with progress_for(quiet) as progress:
            return run(
                recipe,
                scheme=scheme,
                out=out,
                calibration=calibration,
                spare=spare or (),
                calibration_state=calibration_state,
                progress=progress,
            )

    finish_plainly(work, json, debug)
