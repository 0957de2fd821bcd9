"""The verbs of the lab: setting the emulated boards up, and listing them."""

from typing import TYPE_CHECKING, Any

import typer

from edgekit.cli.app import app
from edgekit.cli.options import Debug, Json, Quiet
from edgekit.cli.outcome import finish
from edgekit.progress import progress_for

if TYPE_CHECKING:
    from edgekit.commands.lab import LabListing
    from edgekit.labs.emulated.setup import SetUp

__all__ = ["lab", "list_boards", "set_up"]

lab = typer.Typer(no_args_is_help=True, help="The lab of emulated boards: set it up, list its boards.")
app.add_typer(lab, name="lab")


@lab.command("setup")
def set_up(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Fetch and build the emulated boards, without root, in the cache folder (about 180 MB).

    It goes on where a set-up that was killed had come to.
    """

    def work() -> Any:
        from edgekit.commands.lab import set_up_lab

        with progress_for(quiet) as progress:
            return set_up_lab(progress)

    finish(work, document=_plain, show=_show_set_up, as_json=json, debug=debug)


@lab.command("list")
def list_boards(json: Json = False, debug: Debug = False) -> None:
    """The boards that can be emulated, and whether the lab is set up."""

    def work() -> Any:
        from edgekit.commands.lab import list_lab

        return list_lab()

    finish(work, document=_plain, show=_show_boards, as_json=json, debug=debug)


def _plain(result: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(result)


def _show_set_up(done: "SetUp") -> None:
    from edgekit.cli.screen import Screen, bytes_in_words, pairs

    fetched = [f"{part.name} {part.version}" for step in done.steps for part in step.parts]
    rows = [
        ("lab", f"{done.folder} ({bytes_in_words(done.size_bytes)})"),
        ("done now", f"{', '.join(done.made) or 'nothing, all was there'} ({done.seconds:.1f} s)"),
        ("made of", ", ".join(fetched)),
        ("counting", done.numeric_only or "boards count instructions"),
        ("next", "edgekit lab list; edgekit run BUNDLE --on raspberry-pi-5"),
    ]
    pairs(Screen(), rows, indent=0)


def _show_boards(found: "LabListing") -> None:
    from edgekit.cli.screen import Screen, bytes_in_words, pairs, plain_table

    screen = Screen()
    table = plain_table("board", "processor", "instruction sets", "memory", "counts", left=3)
    for board in found.boards:
        cpu = board.cpu.partition(",")[0]
        table.add_row(board.name, cpu, " ".join(board.isa), bytes_in_words(board.memory_bytes), "yes" if board.counts else "no")
    screen.print(table)
    screen.print()
    missing = f"not set up: {', '.join(found.missing)}; run edgekit lab setup" if found.missing else "set up"
    pairs(screen, [("lab", f"{found.folder} ({bytes_in_words(found.size_bytes)}), {missing}")], indent=0)
