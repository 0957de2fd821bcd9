"""The verb that proves a bundle on other processors: certify."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.app import app
from edgekit.cli.options import Debug, Json, Quiet
from edgekit.cli.outcome import finish
from edgekit.progress import progress_for

__all__ = ["certify"]


@app.command()
def certify(
    bundle: Annotated[Path, typer.Argument(help="A NAME.edge directory; the certificate is written into it.")],
    isa: Annotated[
        str,
        typer.Option(
            metavar="PLACE,PLACE,…",
            help="Where: host, emulated boards (edgekit lab list), devices (edgekit device list).",
        ),
    ] = "host",
    recipe: Annotated[str | None, typer.Option(help="Recipe with examples, metric and the float model.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(min=0.0, help="What the metric may lose (default: what the bundle was deployed with).")
    ] = None,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Examples at each place (default: what fits into the time, at least 30).")
    ] = None,
    place_budget: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Time for the evaluation at each place.")] = 60.0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a bundle's evaluation on several kinds of processor; exit with 3 where it fails on one."""
    from edgekit.cli.certificate_view import show_certificates

    def work() -> Any:
        from edgekit.commands.certify import certify as run

        with progress_for(quiet) as progress:
            return run(
                bundle,
                isa=[name.strip() for name in isa.split(",") if name.strip()],
                recipe=recipe,
                max_drop=max_drop,
                examples=examples,
                place_budget_s=place_budget,
                progress=progress,
            )

    def gates(found: Any) -> list[str]:
        return [f"{row.isa}: {row.reason}" for row in found.failed]

    finish(work, document=lambda found: found.document(), show=show_certificates, as_json=json, debug=debug, gates=gates)
