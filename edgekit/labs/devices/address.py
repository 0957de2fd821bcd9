"""What the list of devices holds of each: where it is, whose account, which Python and which key. Never a password."""

import re
from urllib.parse import urlsplit

import msgspec

from edgekit_runtime.errors import DeviceError

__all__ = ["Device", "check_name", "parse_address"]

PORT = 22
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# What a host and an account may be made of; neither may begin like an option.
HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*")
PYTHON = "python3"


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device.

    Attributes:
        host: Its name or address, or a ``Host`` of ``~/.ssh/config``.
        user: The account; ``None`` leaves it to ``~/.ssh/config``, or to this account's name.
        port: Where its SSH server listens; ``None`` leaves it to ``~/.ssh/config``, or to 22.
        python: The Python there: a name that its shell finds, or an absolute path.
        identity: The private key here; ``None`` takes the agent's and the usual ones.
    """

    host: str
    user: str | None = None
    port: int | None = None
    python: str = PYTHON
    identity: str | None = None

    @property
    def address(self) -> str:
        """As `parse_address` reads it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"ssh://{user}{host}{f':{self.port}' if self.port else ''}"

    @property
    def ssh_command(self) -> str:
        """What reaches it from a terminal."""
        port = f"-p {self.port} " if self.port else ""
        return f"ssh {port}{f'{self.user}@' if self.user else ''}{self.host}"


def check_name(name: str) -> None:
    """Refuses a name that `--on` could not take.

    Raises:
        DeviceError: It is not made of small letters, digits and hyphens.
    """
    if not NAME.fullmatch(name):
        raise DeviceError(f"name a device {name!r}: a name is made of small letters, digits and hyphens, such as pi4")


def parse_address(address: str, python: str = PYTHON, identity: str | None = None) -> Device:
    """The device at an address such as ``ssh://pi@raspberrypi.local:2222``.

    Raises:
        DeviceError: It is no such address, or it holds a password.
    """
    expected = "expected ssh://user@host or ssh://user@host:port"
    try:
        parts = urlsplit(address)
        host, user, port = parts.hostname, parts.username, parts.port
    except ValueError as error:
        raise DeviceError(f"read a device's address: {error}; {expected}") from error
    if parts.password is not None:
        # The message does not repeat the address: it would show the password again.
        raise DeviceError(
            f"read the address of a device at {host}: it holds a password, and passwords are kept in no file; let the board know "
            f"your key (ssh-copy-id {f'-p {port} ' if port else ''}{user}@{host}), and give the address without it"
        )
    if parts.scheme != "ssh" or not host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise DeviceError(f"read the address {address!r}: {expected}")
    # urlsplit makes the host's letters small, which ~/.ssh/config would tell apart.
    given = parts.netloc.rpartition("@")[2]
    host = next((given[at : at + len(host)] for at in (0, 1) if given[at : at + len(host)].lower() == host), host)
    if not HOST.fullmatch(host) or (user is not None and not USER.fullmatch(user)) or port == 0:
        raise DeviceError(f"read the address {address!r}: account, host or port is none; {expected}")
    if not python or python.startswith("-") or not python.isprintable():
        raise DeviceError(f"read a device's Python {python!r}: expected a name such as python3, or an absolute path on the device")
    return Device(host, user, port, python, identity)
