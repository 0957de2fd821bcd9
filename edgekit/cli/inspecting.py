"""The verbs that look and explain: inspect, card and doctor."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.app import app
from edgekit.cli.options import Debug, Json, Quiet
from edgekit.cli.outcome import finish
from edgekit.progress import progress_for

__all__ = ["card", "doctor", "inspect"]


@app.command()
def inspect(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="a NAME.edge bundle, or a model.onnx; with --sensitivity or --why also path/to/recipe.py"
        ),
    ],
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Measure what quantizing each node alone costs, and what sparing it wins.")
    ] = False,
    why: Annotated[
        bool, typer.Option("--why", help="Say why it is slow, or wrong: ranked findings, with evidence and what to do.")
    ] = False,
    recipe: Annotated[str | None, typer.Option(help="With --why: the recipe behind a bundle or a file.")] = None,
    against: Annotated[Path | None, typer.Option(help="With --why: the float .onnx file, where no recipe makes it.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="With --why: diagnose it with so many intra-op threads (default: the bundle's).")
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            help="With --sensitivity: the static scheme (default: U8S7, everything); with --why: how a recipe's model is quantized."
        ),
    ] = None,
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
    from edgekit.cli.why_view import show_why

    studied: dict[str, Any] = {
        "scheme": scheme,
        "calibration": calibration,
        "examples": examples,
        "time_budget_s": time_budget,
        "plot": plot,
        "layers": layers or None,
    }
    diagnosed: dict[str, Any] = {"recipe": recipe, "against": against, "threads": threads, "scheme": scheme}
    if sensitivity and why:
        raise typer.BadParameter("--sensitivity and --why are two questions; ask one at a time")
    _check_asked(studied, sensitivity, "--sensitivity", diagnosed if why else {})
    _check_asked(diagnosed, why, "--why", studied if sensitivity else {})
    asked = {name: value for name, value in (diagnosed if why else studied).items() if value is not None}

    def work() -> Any:
        if why:
            from edgekit.commands.diagnose import diagnose

            with progress_for(quiet) as progress:
                return diagnose(model, progress=progress, **asked)
        if sensitivity:
            from edgekit.commands.sensitivity import sensitivity as measure

            with progress_for(quiet) as progress:
                return measure(model, progress=progress, **asked)
        from edgekit.commands.inspect import inspect as run

        return run(model)

    show: Any = show_why if why else show_sensitivity if sensitivity else show_inspection
    finish(work, document=lambda result: result.document(), show=show, as_json=json, debug=debug)


def _check_asked(options: dict[str, Any], wanted: bool, question: str, taken: dict[str, Any]) -> None:
    """Refuses options of a question that is not asked, save those that the other question takes, too."""
    for name, value in options.items():
        if value is not None and not wanted and name not in taken:
            raise typer.BadParameter(f"--{name.removesuffix('_s').replace('_', '-')} needs {question}")


@app.command()
def card(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="a NAME.edge bundle")],
    out: Annotated[Path | None, typer.Option(help="Write the card to this .md file.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a bundle's model card in Markdown."""

    def work() -> Any:
        from edgekit.commands.card import card as run

        return run(bundle, out=out)

    def show(result: Any) -> None:
        typer.echo(f"wrote {result.saved}" if result.saved else result.text, nl=bool(result.saved))

    finish(work, document=lambda result: result.document(), show=show, as_json=json, debug=debug)


@app.command()
def doctor(
    target: Annotated[
        str | None, typer.Option(help="Look at this target instead: what to know before a bundle is put there.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="With --target: the bundle that is to run there.")] = None,
    python: Annotated[
        str | None, typer.Option(metavar="VERSION", help="With --target: the Python there, such as 3.11 (default: its system's).")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="With --target: the system's, where it is not the target's own, such as armv7l.")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="With --target: ask pip which wheels there are now.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what this machine is, what that means for int8, and what is wrong with it; or the same of a target."""
    from edgekit.cli.checkup_view import show_checkup, show_target_checkup

    for name, given in (("bundle", bundle), ("python", python), ("architecture", architecture), ("online", online)):
        if given and target is None:
            raise typer.BadParameter(f"--{name} needs --target")

    def work() -> Any:
        if target is not None:
            from edgekit.commands.doctor_target import doctor_target

            return doctor_target(target, bundle=bundle, python=python, architecture=architecture, online=online)
        from edgekit.commands.doctor import doctor as run

        return run()

    show: Any = show_checkup if target is None else show_target_checkup
    finish(work, document=lambda result: result.document(), show=show, as_json=json, debug=debug)
