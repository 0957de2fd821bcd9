"""How Python is started on an emulated board."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekit.labs.emulated.boards import Board
from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.overlay import make_overlay
from edgekit.labs.emulated.pins import pins
from edgekit_runtime.errors import LabError
from edgekit_runtime.machine import machine

__all__ = ["Launch", "launch"]

# One thread, the same hashes and the same random numbers each time: what is counted shall repeat.
STEADY = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


class Launch(msgspec.Struct, frozen=True):
    """A process to start.

    Attributes:
        command: The emulator, its options, and Python with its arguments.
        environment: All of the process's environment.
    """

    command: list[str]
    environment: dict[str, str]


def launch(lab: Lab, board: Board, arguments: Sequence[str], plugin: tuple[Path, dict[str, str]] | None = None) -> Launch:
    """Python with `arguments` on a board.

    On an ARM board it is the lab's own Python and packages, with this installation's runtime. Under an emulated x86-64 processor it
    is this very interpreter with all that it imports from.

    Args:
        lab: A lab that is set up.
        board: The board.
        arguments: Python's arguments.
        plugin: A plugin of the emulator with its options.

    Raises:
        LabError: The board needs another machine than this.
    """
    options = ["-L", str(make_overlay(lab, board)), "-cpu", board.cpu, "-seed", "0"]
    if plugin is not None:
        told = "".join(f",{key}={_doubled(value)}" for key, value in plugin[1].items())
        options += ["-plugin", f"{_doubled(str(plugin[0]))}{told}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "QEMU_", "LD_"))}
    environment |= STEADY | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, lab.libraries))}
    if board.architecture == "aarch64":
        python = lab.python(pins().python)
        environment |= {
            "PYTHONHOME": str(lab.sysroot / "usr"),
            "PYTHONPATH": os.pathsep.join(map(str, (_runtime(lab), lab.site))),
            "PYTHONPYCACHEPREFIX": str(lab.bytecode),
        }
        # The libraries in it are for the emulator, not for what runs inside.
        options += ["-U", "LD_LIBRARY_PATH"]
    else:
        if machine().architecture != board.architecture:
            raise LabError(
                f"start {board.name}: it runs this machine's own Python, which is for {machine().architecture}, "
                f"and takes one for {board.architecture}; run it on such a machine"
            )
        python = Path(sys.executable)
        environment["PYTHONPATH"] = os.pathsep.join(folder for folder in sys.path if folder)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        given = os.environ.get("LD_LIBRARY_PATH", "")
        options += ["-E", f"LD_LIBRARY_PATH={given}"] if given and "," not in given else ["-U", "LD_LIBRARY_PATH"]
    command = [str(lab.qemu(board.architecture)), *options, str(python), "-s", "-P", *arguments]
    return Launch(command, environment)


def _runtime(lab: Lab) -> Path:
    """A folder from which this installation's runtime can be imported, and nothing else that lies beside it."""
    import edgekit_runtime

    package = Path(edgekit_runtime.__file__).resolve().parent
    folder = lab.folder / "runtime" / hashlib.sha256(os.fsencode(package)).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / package.name
    with contextlib.suppress(FileExistsError):  # its folder's name says what it leads to
        link.symlink_to(package)
    return folder


def _doubled(text: str) -> str:
    """Text in an option of QEMU's, where a comma ends a value."""
    return text.replace(",", ",,")
