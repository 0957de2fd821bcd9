"""The verbs about devices: add, list, remove, check and calibrate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.app import app
from edgekit.cli.options import AnyIsa, Debug, Json, Quiet
from edgekit.cli.outcome import finish, finish_plainly
from edgekit.progress import progress_for

__all__ = ["device"]

device = typer.Typer(
    name="device", help="Boards that are measured on over SSH: add, list, remove, check, calibrate.", no_args_is_help=True
)
app.add_typer(device)

Name = Annotated[str, typer.Argument(metavar="NAME", help="what --on calls it: small letters, digits and hyphens")]


@device.command()
def add(
    name: Name,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="ssh://user@host or ssh://user@host:port")],
    python: Annotated[str, typer.Option(metavar="PATH", help="The Python there.")] = "python3",
    identity: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The private key here (default: the agent's, and the usual ones).")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Put a board on the list; nothing is sent to it yet."""

    def work() -> Any:
        from edgekit.commands.device import add_device

        return add_device(name, address, python=python, identity=identity)

    finish_plainly(work, json, debug)


@device.command(name="list")
def list_all(json: Json = False, debug: Debug = False) -> None:
    """Show the boards on the list."""

    def work() -> Any:
        from edgekit.commands.device import list_devices

        return list_devices()

    def document(listed: Any) -> Any:
        import msgspec

        return {"devices": msgspec.to_builtins(listed)}

    finish(work, document=document, show=_show, as_json=json, debug=debug)


@device.command()
def remove(name: Name, json: Json = False, debug: Debug = False) -> None:
    """Take a board off the list; what lies on it stays there, below ~/.edgekit."""

    def work() -> Any:
        from edgekit.commands.device import remove_device

        return remove_device(name)

    finish_plainly(work, json, debug)


@device.command()
def check(name: Name, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Connect to a board, put the runtime on it, start it, and say what it is."""

    def work() -> Any:
        from edgekit.commands.device import check_device

        with progress_for(quiet) as progress:
            return check_device(name, progress=progress)

    finish_plainly(work, json, debug)


@device.command()
def calibrate(
    name: Name,
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE…", help="NAME.edge bundles or models, five or more of all sizes")
    ],
    board: Annotated[str, typer.Option(help="The emulated board that the device is one of, such as raspberry-pi-5.")],
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds of about 10 ms.")] = 25,
    any_isa: AnyIsa = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fit what instructions cost on a real board, so that counts on the emulated one predict a time, with its error."""

    def work() -> Any:
        from edgekit.commands.calibrate import calibrate_device

        with progress_for(quiet) as progress:
            return calibrate_device(name, board, bundles, rounds=rounds, check_isa=not any_isa, progress=progress)

    finish_plainly(work, json, debug)


def _show(listed: Any) -> None:
    from edgekit.cli.screen import Screen, plain_table

    if not listed:
        typer.echo("no devices; add one with: edgekit device add NAME ssh://user@address")
        return
    table = plain_table("name", "address", "python", "key", left=4)
    for one in listed:
        table.add_row(one.name, one.address, one.python, one.identity or "–")
    Screen().print(table)
