"""Places to measure on: this machine, an emulated board, a device over SSH. All of them run the same worker."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, Protocol

from edgekit.labs.worker import PipeChannel, Worker
from edgekit.progress import Progress
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.fresh_process import child_environment

__all__ = ["HOST", "HostPlace", "Kind", "Place", "find_place", "place_names"]

HOST = "host"
Kind = Literal["host", "emulated", "device"]


class Place(Protocol):
    """Where bundles and models are run and measured.

    Attributes:
        name: What ``--on`` calls it.
        kind: Whether its times are a real processor's: those of an emulated place never are, and are never given.
    """

    @property
    def name(self) -> str:
        """What ``--on`` calls it."""

    @property
    def kind(self) -> Kind:
        """What it is."""

    def start(self) -> AbstractContextManager[Worker]:
        """A worker there, which ends with the context."""

    def put(self, path: Path) -> str:
        """Makes a bundle or a model available there; its path as a worker there sees it."""


class HostPlace:
    """This machine, with the worker in a process of its own: a model that crashes does not take the caller with it."""

    name = HOST
    kind: Kind = "host"

    @contextmanager
    def start(self) -> Iterator[Worker]:
        """A worker on this machine."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "edgekit_runtime", "worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,  # Ctrl-C is the caller's, who ends the worker in order
        )
        with Worker(PipeChannel(process)) as worker:
            yield worker

    def put(self, path: Path) -> str:
        """The path itself, from the root."""
        return str(path.absolute())


def place_names() -> dict[str, list[str]]:
    """What ``--on`` takes, by kind."""
    from edgekit.labs.devices.registry import read_devices
    from edgekit.labs.emulated.boards import board_names

    return {"host": [HOST], "emulated": list(board_names()), "device": sorted(read_devices())}


def find_place(name: str, progress: Progress | None = None) -> Place:
    """The place that ``--on`` calls `name`.

    Args:
        name: Its name.
        progress: Told of what is sent to a device.

    Raises:
        DeviceError: There is none; the message lists what there is.
    """
    if name == HOST:
        return HostPlace()
    known = place_names()
    if name in known["emulated"]:
        from edgekit.labs.emulated.boards import load_board
        from edgekit.labs.emulated.emulator import EmulatedBoard

        return EmulatedBoard(load_board(name))
    if name in known["device"]:
        from edgekit.labs.devices.device import SshDevice
        from edgekit.labs.devices.registry import read_devices

        return SshDevice(name, read_devices()[name], progress)
    boards, devices = (", ".join(known[kind]) or "none" for kind in ("emulated", "device"))
    raise DeviceError(
        f"find the place {name!r}: there is no such one; emulated boards are {boards}; devices are {devices}; "
        f"{HOST} is this machine; add a board with edgekit device add {name} ssh://user@address"
    )
