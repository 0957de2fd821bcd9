"""The program: its name, its help, and what every verb hangs on."""

from typing import Annotated

import typer

from edgekit import __version__

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
