"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AnyIsa", "CalibrationState", "Debug", "Input", "Json", "ModelArgument", "On", "Quiet", "RecipeArgument", "Threads"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing of the progress.")]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="path/to/recipe.py, path/to/recipe.py:variable, or model.onnx")
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="a NAME.edge bundle, or a model.onnx")]
AnyIsa = Annotated[bool, typer.Option("--any-isa", help="Open a bundle even where its figures do not hold on this processor.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Intra-op threads (default: what this process may use).")]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="Another place: an emulated board such as raspberry-pi-4 (counts, never times), or a device that was added.",
    ),
]
Input = Annotated[
    Path | None, typer.Option("--input", help="An .npz file of inputs by name (default: the bundle's golden example).")
]
CalibrationState = Annotated[
    Path | None,
    typer.Option("--calibration-state", help="Keep here what calibration saw, so that a killed one goes on from it."),
]
