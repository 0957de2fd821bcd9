"""A device over SSH as a place to measure on."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.labs.devices.address import Device
from edgekit.labs.devices.board import Board, check_board
from edgekit.labs.devices.payload import model_payload, runtime_payload, wheels_payload
from edgekit.labs.devices.putting import probe, put, shell_words
from edgekit.labs.devices.ssh import Connection
from edgekit.labs.place import Kind
from edgekit.labs.worker import Worker
from edgekit.progress import Progress, Quiet
from edgekit_runtime.fresh_process import INTERPRETER

__all__ = ["SshDevice"]


class SshDevice:
    """A device over SSH. It puts on the board what is missing there, and nothing else.

    A connection lives as long as a worker or, where none is started, as long as one call.

    Args:
        name: What ``--on`` calls it.
        device: Where it is.
        progress: Told of what is sent.

    Attributes:
        sent_bytes: Bytes of files that were sent, over connections that have ended.
    """

    def __init__(self, name: str, device: Device, progress: Progress | None = None) -> None:
        self._name = name
        self._device = device
        self._progress = progress or Quiet()
        self._connection: Connection | None = None
        self._board: Board | None = None
        self.sent_bytes = 0

    @property
    def name(self) -> str:
        """What ``--on`` calls it."""
        return self._name

    @property
    def kind(self) -> Kind:
        """A device, unless its Python turned out to run under an emulator: then its times are nobody's."""
        return "emulated" if self._board is not None and self._board.emulated else "device"

    def board(self) -> Board:
        """What it is and has.

        Raises:
            DeviceError: It is not reached, is not known, lets nobody in, or has no such Python.
        """
        with self._connected():
            assert self._board is not None
            return self._board

    def put(self, path: Path) -> str:
        """Sends a bundle or a model, as far as the board does not have it; its path there.

        Raises:
            BundleError: The bundle is damaged here already.
            DeviceError: The board is not reached, or has no room.
            ConnectionLostError: The connection broke; another call goes on from there.
        """
        payload = model_payload(path)
        with self._connected() as connection:
            assert self._board is not None
            folder = put(connection, self._device.python, self._board, payload, self._progress)
            return f"{folder}/{payload.opened}" if payload.opened else folder

    @contextmanager
    def start(self) -> Iterator[Worker]:
        """A worker on the board, with the runtime of this release, which is put there where it is missing.

        Raises:
            DeviceError: The board is not reached, or the runtime cannot run there.
            ConnectionLostError: The connection broke.
        """
        with self._connected() as connection:
            folders = self._install(connection)
            assert self._board is not None
            python = shell_words(self._device.python)
            # An emulated Python starts others through the same program; a board's own knows itself where it is.
            given = {"PYTHONPATH": shlex.quote(":".join(folders)), **({INTERPRETER: python} if self._board.emulated else {})}
            exported = "".join(f"{key}={value}; export {key}; " for key, value in given.items())
            channel = connection.channel(f"exec sh -c {shlex.quote(f'{exported}exec {python} -P -m edgekit_runtime worker')}")
            with Worker(channel, self._name) as worker:
                yield worker

    def _install(self, connection: Connection) -> list[str]:
        """Folders for the board's PYTHONPATH, once they are there."""
        assert self._board is not None
        check_board(self._name, self._board)
        python, progress = self._device.python, self._progress
        folders = [put(connection, python, self._board, runtime_payload(), progress)]
        if self._board.lacking:
            from edgekit.search.ledger import ledger_folder

            wheels = wheels_payload(self._name, self._board, ledger_folder().parent, progress)
            folders.append(put(connection, python, self._board, wheels, progress, "unpack"))
        return folders

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """The connection: the one that is open, or a new one for as long as the context lasts."""
        if self._connection is not None and not self._connection.lost:
            yield self._connection
            return
        self._progress.stage(f"connect to {self._name}")
        connection = self._connection = Connection(self._name, self._device)
        try:
            if self._board is None:
                self._board = probe(connection, self._device)
            yield connection
        finally:
            self.sent_bytes += connection.sent_bytes
            connection.close()
            self._connection = None
