"""The verbs, their options and their help."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from edgekit import __version__
from edgekit.cli.options import AnyIsa, CalibrationState, Debug, Input, Json, ModelArgument, Quiet, RecipeArgument, Threads
from edgekit.cli.outcome import finish
from edgekit.cli.scheme_help import QUANTIZE_HELP
from edgekit.progress import progress_for

__all__ = ["app"]

app = typer.Typer(
    name="edgekit",
    help="From PyTorch to a phone or a Raspberry Pi: export, int8, measurement, and an honest verdict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgekit {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """From PyTorch to a phone or a Raspberry Pi: export, int8, measurement, and an honest verdict."""


@app.command()
def deploy(
    recipe: RecipeArgument,
    target: Annotated[str, typer.Option(help="A target's name, or the path of its .toml file.")] = "host",
    max_drop: Annotated[float, typer.Option(min=0.0, help="What the metric may lose against float, in its own unit.")] = 0.01,
    out: Annotated[Path | None, typer.Option(help="Where the bundle goes (default: NAME.edge).")] = None,
    optimize: Annotated[Literal["latency", "size"], typer.Option(help="What to gain.")] = "latency",
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

    _finish_plainly(work, json, debug)


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

    _finish_plainly(work, json, debug)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="The reference: a bundle or a model.onnx")],
    b: Annotated[Path, typer.Argument(help="What is compared with it")],
    recipe: Annotated[str | None, typer.Option(help="Recipe with the examples and the metric.")] = None,
    max_drop: Annotated[float | None, typer.Option(min=0.0, help="Exit with 3 if B loses more of the metric than this.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved timing rounds.")] = 25,
    any_isa: AnyIsa = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Put two bundles or models side by side: accuracy, parity, latency, memory, size."""
    from edgekit.cli.tables import show_comparison

    def work() -> Any:
        from edgekit.commands.compare import compare as run

        with progress_for(quiet) as progress:
            return run(a, b, recipe=recipe, max_drop=max_drop, rounds=rounds, check_isa=not any_isa, progress=progress)

    def gates(comparison: Any) -> list[str]:
        return [f"{gate.name}: {gate.value:.4f}, limit {gate.limit:g}" for gate in comparison.gates if not gate.holds]

    finish(work, document=lambda result: result.document(), show=show_comparison, as_json=json, debug=debug, gates=gates)


@app.command()
def bench(
    model: ModelArgument,
    input_file: Input = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds of about 10 ms.")] = 25,
    threads: Threads = None,
    any_isa: AnyIsa = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure latency, cold start, memory and size on this machine."""

    def work() -> Any:
        from edgekit.commands.bench import bench as run

        return run(model, _feed(input_file), rounds=rounds, threads=threads, check_isa=not any_isa)

    _finish_plainly(work, json, debug)


@app.command(name="run")
def run_once(
    model: ModelArgument,
    input_file: Input = None,
    output: Annotated[Path | None, typer.Option(help="Write the outputs to this .npz file.")] = None,
    threads: Threads = None,
    any_isa: AnyIsa = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a bundle or a model once and show its outputs."""

    def work() -> Any:
        from edgekit.commands.run import run as call
        from edgekit_runtime.__main__ import summary
        from edgekit_runtime.arrays import write_arrays
        from edgekit_runtime.bundle import is_bundle, read_manifest
        from edgekit_runtime.preprocessing import outside_calibration

        feed = _feed(input_file)
        outputs = call(model, feed, threads=threads, check_isa=not any_isa)
        for warning in outside_calibration(read_manifest(model), feed) if feed and is_bundle(model) else ():
            sys.stderr.write(f"warning: {warning}\n")
        if output is not None:
            write_arrays(output, outputs)
        shown = {name: summary(array) for name, array in outputs.items()}
        return {"outputs": shown, "saved": str(output) if output else None}

    _finish_plainly(work, json, debug)


@app.command()
def inspect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="a NAME.edge bundle, or a model.onnx; with --sensitivity also path/to/recipe.py")
    ],
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Measure what quantizing each node alone costs, and what sparing it wins.")
    ] = False,
    scheme: Annotated[str | None, typer.Option(help="With --sensitivity: the static scheme (default: U8S7, everything).")] = None,
    calibration: Annotated[Path | None, typer.Option(help="With --sensitivity: feeds, as for quantize.")] = None,
    examples: Annotated[
        int | None, typer.Option(min=1, help="With --sensitivity: how many examples (default: what the time budget allows).")
    ] = None,
    time_budget: Annotated[
        float | None, typer.Option("--time-budget", min=0.0, help="With --sensitivity: seconds for measuring (default: 60).")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="With --sensitivity: the error of each tensor between, too.")] = False,
    plot: Annotated[Path | None, typer.Option(help="With --sensitivity: draw the worst into this .svg file.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show operators, inputs, weights by dtype, and the Q/DQ that survive onnxruntime's optimization here."""
    from edgekit.cli.inspection_view import show_inspection
    from edgekit.cli.sensitivity_view import show_sensitivity

    given: dict[str, Any] = {
        "scheme": scheme,
        "calibration": calibration,
        "examples": examples,
        "time_budget_s": time_budget,
        "plot": plot,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    if not sensitivity and (asked or layers):
        raise typer.BadParameter(f"--{next(iter(asked), 'layers').removesuffix('_s').replace('_', '-')} needs --sensitivity")

    def work() -> Any:
        if sensitivity:
            from edgekit.commands.sensitivity import sensitivity as measure

            with progress_for(quiet) as progress:
                return measure(model, layers=layers, progress=progress, **asked)
        from edgekit.commands.inspect import inspect as run

        return run(model)

    show = show_sensitivity if sensitivity else show_inspection
    finish(work, document=lambda result: result.document(), show=show, as_json=json, debug=debug)


@app.command()
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Say what this machine is, what that means for int8, and what is wrong with it."""
    from edgekit.cli.diagnosis_view import show_diagnosis

    def work() -> Any:
        from edgekit.commands.doctor import doctor as run

        return run()

    finish(work, document=lambda result: result.document(), show=show_diagnosis, as_json=json, debug=debug)


def _feed(path: Path | None) -> Any:
    from edgekit_runtime.arrays import read_arrays

    return read_arrays(path) if path is not None else None


def _finish_plainly(work: Any, as_json: bool, debug: bool) -> None:
    from edgekit.cli.tables import show_fields

    finish(work, document=msgspec.to_builtins, show=show_fields, as_json=as_json, debug=debug)
