"""The list of devices: ``edgekit/devices.toml`` in the user's configuration folder."""

import json
import os
import tomllib
from pathlib import Path

import msgspec

from edgekit.labs.devices.address import Device, check_name
from edgekit.text_file import write_text
from edgekit_runtime.errors import DeviceError, OutputError

__all__ = ["add_device", "devices_file", "read_devices", "remove_device"]

HEADER = "# Devices that edgekit measures on; written by `edgekit device add` and `remove`. Passwords have no place here.\n"


def devices_file() -> Path:
    """Where the list is: in ``$XDG_CONFIG_HOME``, or in ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "edgekit" / "devices.toml"


def read_devices() -> dict[str, Device]:
    """All devices by name; none where there is no list.

    Raises:
        DeviceError: The list cannot be read, or does not hold.
    """
    path = devices_file()
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(f"read the list of devices {path}: {error}; mend it, or remove it and add the devices anew") from error
    try:
        devices = msgspec.convert(tomllib.loads(text), dict[str, Device])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DeviceError(f"read the list of devices {path}: {error}; mend it, or remove it and add the devices anew") from error
    for name in devices:
        check_name(name)
    return devices


def add_device(name: str, device: Device, taken: list[str]) -> None:
    """Puts a device on the list; one of the same name is replaced.

    Args:
        name: What ``--on`` is to call it.
        device: What it is.
        taken: Names of other places.

    Raises:
        DeviceError: The name is none, or is another place's.
        OutputError: The list could not be written.
    """
    check_name(name)
    if name in taken:
        raise DeviceError(f"add the device {name!r}: an emulated board, or this machine, has that name already; choose another one")
    _write({**read_devices(), name: device})


def remove_device(name: str) -> None:
    """Takes a device off the list. What lies on the device stays there.

    Raises:
        DeviceError: It is not on the list.
        OutputError: The list could not be written.
    """
    devices = read_devices()
    if name not in devices:
        raise DeviceError(f"remove the device {name!r}: it is not on the list, which has {', '.join(sorted(devices)) or 'none'}")
    _write({other: device for other, device in devices.items() if other != name})


def _write(devices: dict[str, Device]) -> None:
    path = devices_file()
    tables = [HEADER]
    for name, device in sorted(devices.items()):
        fields = {key: value for key, value in msgspec.to_builtins(device).items() if value is not None}
        # JSON's strings and whole numbers are TOML's, too, as long as no control characters are in them.
        tables.append("\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]) + "\n")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"write {path}: {error.strerror or error}") from error
    write_text(path, "\n".join(tables))
