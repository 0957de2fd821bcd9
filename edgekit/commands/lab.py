"""Lab: the emulated boards, set up and listed."""

import msgspec

from edgekit.labs.emulated.boards import board_names, load_board
from edgekit.labs.emulated.counts import can_count
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.setup import SetUp, set_up, unfinished
from edgekit.progress import Progress

__all__ = ["BoardRow", "LabListing", "list_lab", "set_up_lab"]


class BoardRow(msgspec.Struct, frozen=True):
    """One board of the lab.

    Attributes:
        name: What ``--on`` calls it.
        description: What it is.
        cpu: The emulated processor, as QEMU calls it.
        isa: Instruction sets that matter to int8 and that it has.
        memory_bytes: Memory of the smallest board of the name.
        counts: Whether its instructions can be counted here and now.
    """

    name: str
    description: str
    cpu: str
    isa: tuple[str, ...]
    memory_bytes: int
    counts: bool


class LabListing(msgspec.Struct, frozen=True):
    """The lab as it stands.

    Attributes:
        folder: Where it is kept.
        missing: Steps of its set-up that are not done; none where boards can be started.
        size_bytes: What its files weigh.
        boards: The boards.
    """

    folder: str
    missing: list[str]
    size_bytes: int
    boards: list[BoardRow]


def set_up_lab(progress: Progress | None = None) -> SetUp:
    """Sets the user's lab up, or what is missing of it; see `edgekit.labs.emulated.setup`.

    Raises:
        LabError: A program is missing, or the package archive or index cannot be reached, or offers something else.
        OutputError: The folder cannot be written to.
    """
    return set_up(Lab(lab_folder()), progress)


def list_lab() -> LabListing:
    """Which boards there are, and whether they can be used."""
    lab = Lab(lab_folder())
    boards = [load_board(name) for name in board_names()]
    rows = [
        BoardRow(board.name, board.description, board.cpu, board.isa, board.memory_bytes, can_count(board, lab)) for board in boards
    ]
    return LabListing(str(lab.folder), unfinished(lab), lab.size_bytes() if lab.folder.is_dir() else 0, rows)
