"""The verbs that run models: compare, bench, run and selftest."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.app import app
from edgekit.cli.options import AnyIsa, Debug, Input, Json, ModelArgument, On, Quiet, Threads
from edgekit.cli.outcome import finish, finish_plainly
from edgekit.progress import progress_for

__all__ = ["bench", "compare", "run_once", "selftest"]


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="The reference: a bundle or a model.onnx")],
    b: Annotated[Path, typer.Argument(help="What is compared with it")],
    recipe: Annotated[str | None, typer.Option(help="Recipe with the examples and the metric.")] = None,
    max_drop: Annotated[float | None, typer.Option(min=0.0, help="Exit with 3 if B loses more of the metric than this.")] = None,
    require_certified: Annotated[
        bool,
        typer.Option("--require-certified", help="Exit with 3 unless the worst end of the loss is inside --max-drop, too."),
    ] = False,
    min_speedup: Annotated[
        float | None, typer.Option(min=0.0, help="Exit with 3 unless B is beyond doubt so many times as fast as A.")
    ] = None,
    max_size_ratio: Annotated[
        float | None, typer.Option(min=0.0, help="Exit with 3 if B's files weigh more than so many times A's.")
    ] = None,
    min_sqnr: Annotated[float | None, typer.Option(help="Exit with 3 if B's outputs are fewer dB SQNR from A's.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the gates to this .xml file, as JUnit reports tests.")] = None,
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
            return run(
                a,
                b,
                recipe=recipe,
                max_drop=max_drop,
                require_certified=require_certified,
                min_speedup=min_speedup,
                max_size_ratio=max_size_ratio,
                min_sqnr_db=min_sqnr,
                junit=junit,
                rounds=rounds,
                check_isa=not any_isa,
                progress=progress,
            )

    def gates(comparison: Any) -> list[str]:
        return [gate.told for gate in comparison.gates if not gate.holds]

    finish(work, document=lambda result: result.document(), show=show_comparison, as_json=json, debug=debug, gates=gates)


@app.command()
def bench(
    model: ModelArgument,
    input_file: Input = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds of about 10 ms.")] = 25,
    threads: Threads = None,
    on: On = None,
    any_isa: AnyIsa = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure latency, cold start, memory and size on this machine, or at another place."""

    def work() -> Any:
        from edgekit.commands.bench import bench as run

        with progress_for(quiet) as progress:
            return run(
                model,
                _feed(input_file),
                rounds=rounds,
                threads=threads,
                check_isa=not any_isa,
                on=on,
                progress=progress,
            )

    finish_plainly(work, json, debug)


@app.command(name="run")
def run_once(
    model: ModelArgument,
    input_file: Input = None,
    output: Annotated[Path | None, typer.Option(help="Write the outputs to this .npz file.")] = None,
    threads: Threads = None,
    on: On = None,
    any_isa: AnyIsa = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a bundle or a model once, on this machine or at another place, and show its outputs."""

    def work() -> Any:
        from edgekit.commands.run import run as call
        from edgekit_runtime.__main__ import summary
        from edgekit_runtime.arrays import write_arrays
        from edgekit_runtime.bundle import is_bundle, read_manifest
        from edgekit_runtime.preprocessing import outside_calibration

        feed = _feed(input_file)
        with progress_for(quiet) as progress:
            outputs = call(model, feed, threads=threads, check_isa=not any_isa, on=on, progress=progress)
        for warning in outside_calibration(read_manifest(model), feed) if feed and is_bundle(model) else ():
            sys.stderr.write(f"warning: {warning}\n")
        if output is not None:
            write_arrays(output, outputs)
        shown = {name: summary(array) for name, array in outputs.items()}
        placed = {"place": on} if on else {}
        return {**placed, "outputs": shown, "saved": str(output) if output else None}

    finish_plainly(work, json, debug)


@app.command()
def selftest(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="a NAME.edge bundle")],
    threads: Threads = None,
    on: On = None,
    any_isa: AnyIsa = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a bundle's golden examples, here or at another place; exit with 3 where they do not come out."""

    def work() -> Any:
        from edgekit.commands.selftest import selftest as run

        with progress_for(quiet) as progress:
            return run(bundle, threads=threads, check_isa=not any_isa, on=on or "host", progress=progress)

    def document(seen: Any) -> Any:
        import msgspec

        return msgspec.to_builtins(seen)

    def gates(seen: Any) -> list[str]:
        from edgekit_runtime.errors import SelfTestError

        try:
            seen.require(f"{bundle} on {seen.place}")
        except SelfTestError as error:
            return [str(error)]
        return []

    from edgekit.cli.tables import show_fields

    finish(work, document=document, show=show_fields, as_json=json, debug=debug, gates=gates)


def _feed(path: Path | None) -> Any:
    from edgekit_runtime.arrays import read_arrays

    return read_arrays(path) if path is not None else None
