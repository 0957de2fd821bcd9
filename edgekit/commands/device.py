"""Devices: putting them on the list, taking them off, and seeing whether they can be measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgekit.labs.devices.address import PYTHON, Device
from edgekit.progress import Progress
from edgekit_runtime.errors import DeviceError

__all__ = ["Listed", "add_device", "check_device", "list_devices", "remove_device"]


class Listed(msgspec.Struct, frozen=True):
    """One device on the list.

    Attributes:
        name: What ``--on`` calls it.
        address: Where it is.
        python: The Python there.
        identity: The private key here; ``None`` takes the agent's and the usual ones.
    """

    name: str
    address: str
    python: str
    identity: str | None


def add_device(name: str, address: str, *, python: str = PYTHON, identity: str | Path | None = None) -> Listed:
    """Puts a device on the list; nothing is sent to it yet.

    Args:
        name: What ``--on`` is to call it.
        address: ``ssh://user@host`` or ``ssh://user@host:port``.
        python: The Python there.
        identity: The private key here.

    Raises:
        DeviceError: The name or the address is none, the address holds a password, or there is no such key.
        OutputError: The list could not be written.
    """
    from edgekit.labs.devices import registry
    from edgekit.labs.devices.address import parse_address
    from edgekit.labs.place import place_names

    key = Path(identity).expanduser().absolute() if identity is not None else None
    if key is not None and not key.is_file():
        raise DeviceError(f"add the device {name!r}: there is no key {key}; ssh-keygen makes one")
    device = parse_address(address, python, str(key) if key else None)
    names = place_names()
    registry.add_device(name, device, [*names["host"], *names["emulated"]])
    return _listed(name, device)


def list_devices() -> list[Listed]:
    """All devices on the list.

    Raises:
        DeviceError: The list cannot be read.
    """
    from edgekit.labs.devices.registry import read_devices

    return [_listed(name, device) for name, device in sorted(read_devices().items())]


def remove_device(name: str) -> Listed:
    """Takes a device off the list; what lies on it stays there, below ``~/.edgekit``.

    Raises:
        DeviceError: It is not on the list.
        OutputError: The list could not be written.
    """
    from edgekit.labs.devices import registry

    devices = registry.read_devices()
    registry.remove_device(name)
    return _listed(name, devices[name])


def check_device(name: str, *, progress: Progress | None = None) -> dict[str, Any]:
    """Connects to a device, puts the runtime on it where it is missing, starts it, and says what it is.

    Raises:
        DeviceError: It is not on the list, not reached, or cannot run the runtime; says what to do.
        ConnectionLostError: The connection broke.
    """
    from edgekit.labs.devices.device import SshDevice
    from edgekit.labs.devices.registry import read_devices

    devices = read_devices()
    if name not in devices:
        raise DeviceError(
            f"check the device {name!r}: it is not on the list, which has {', '.join(sorted(devices)) or 'none'}; "
            f"edgekit device add {name} ssh://user@address"
        )
    place = SshDevice(name, devices[name], progress)
    board = place.board()
    with place.start() as worker:
        welcome, health = worker.hello(), worker.health()
    return {
        "name": name,
        "address": devices[name].address,
        "kind": place.kind,
        "machine": msgspec.to_builtins(welcome.machine),
        "versions": welcome.versions,
        "packages_from": "here" if board.lacking else "the device",
        "health": msgspec.to_builtins(health),
        "free_bytes": board.free_bytes,
        "sent_bytes": place.sent_bytes,
    }


def _listed(name: str, device: Device) -> Listed:
    return Listed(name, device.address, device.python, device.identity)
