"""Emulated boards as places to measure on: the runtime's worker, under a chosen processor."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.labs.emulated.boards import Board
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.launch import launch
from edgekit.labs.emulated.plugin import build_plugin
from edgekit.labs.emulated.setup import need_lab
from edgekit.labs.place import Kind
from edgekit.labs.worker import PipeChannel, Worker
from edgekit_runtime.errors import LabError

__all__ = ["EmulatedBoard"]


class EmulatedBoard:
    """One board, emulated. What is computed on it is what the board computes; how long that takes says nothing of the board.

    One thread is emulated well, and one is what models get that are opened through `start_counting`; elsewhere ask for it.

    Args:
        board: The board.
        lab: The lab that it runs in; the user's own where left out.

    Attributes:
        board: The board.
        lab: The lab that it runs in.
    """

    kind: Kind = "emulated"

    def __init__(self, board: Board, lab: Lab | None = None) -> None:
        self.board = board
        self.lab = lab or Lab(lab_folder())

    @property
    def name(self) -> str:
        """The board's name."""
        return self.board.name

    def put(self, path: Path) -> str:
        """The path itself, from the root: the emulator sees this machine's files."""
        return str(path.absolute())

    @contextmanager
    def start(self) -> Iterator[Worker]:
        """A worker on the board.

        Raises:
            LabError: The lab is not set up, or the board needs another machine than this.
        """
        with self._start(None) as worker:
            yield worker

    @contextmanager
    def start_counting(self, out: Path, *, caches: bool) -> Iterator[Worker]:
        """A worker on the board whose instructions are counted at its marks.

        Args:
            out: Where the counting plugin writes: a line a mark.
            caches: Whether data caches are modelled, too, which is several times slower.

        Raises:
            LabError: As of `start`; or the plugin is not there and cannot be compiled.
        """
        options = {"out": str(out)}
        if caches:
            l1, l2 = self.board.l1, self.board.l2
            options["caches"] = f"{l1.size_bytes}:{l1.ways}:{l2.size_bytes}:{l2.ways}:{self.board.line_bytes}"
        with self._start((build_plugin(self.lab), options)) as worker:
            yield worker

    @contextmanager
    def _start(self, plugin: tuple[Path, dict[str, str]] | None) -> Iterator[Worker]:
        need_lab(self.lab, f"start {self.name}")
        start = launch(self.lab, self.board, ["-m", "edgekit_runtime", "worker"], plugin)
        try:
            process = subprocess.Popen(
                start.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=start.environment,
                start_new_session=True,  # Ctrl-C is the caller's, who ends the worker in order
            )
        except OSError as error:
            raise LabError(f"start {self.name}: the emulator could not be started: {error.strerror or error}") from error
        with Worker(PipeChannel(process, self.name), self.name) as worker:
            yield worker
