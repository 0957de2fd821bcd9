"""What the lab is made of, from `pins.toml`."""

import re
import tomllib
from functools import cache
from importlib import resources

import msgspec

__all__ = ["Library", "Pins", "Wheel", "pins", "upstream_version"]

# Debian's own marks on an upstream version, such as 7.2+dfsg or 1.2.13.dfsg.
REPACKED = re.compile(r"[.+~](?:dfsg|ds|repack)\d*.*$")


class Library(msgspec.Struct, frozen=True):
    """The package that a shared library is in.

    Attributes:
        package: Debian's name of it.
        version: The upstream version.
    """

    package: str
    version: str


class Wheel(msgspec.Struct, frozen=True):
    """A wheel for aarch64.

    Attributes:
        version: Its version.
        sha256: Checksum of its file.
    """

    version: str
    sha256: str


class Pins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the lab is made of.

    Attributes:
        release: The distribution that the packages are of.
        python: The version of Python that they hold.
        emulator: Upstream versions of packages for this machine, by name.
        libraries: What the emulator needs where this machine lacks it, by soname.
        userland: Upstream versions of packages for arm64, by name.
        wheels: Python packages for aarch64, by name.
    """

    release: str
    python: str
    emulator: dict[str, str]
    libraries: dict[str, Library]
    userland: dict[str, str]
    wheels: dict[str, Wheel]


@cache
def pins() -> Pins:
    """The lab's pins."""
    text = (resources.files("edgekit.labs.emulated") / "pins.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Pins)


def upstream_version(version: str) -> str:
    """The upstream part of a Debian version.

    >>> upstream_version("1:7.2+dfsg-7+deb12u18+b3")
    '7.2'
    >>> upstream_version("12.2.0-14+deb12u1")
    '12.2.0'
    """
    without_epoch = version.partition(":")[2] or version
    without_revision = without_epoch.rpartition("-")[0] or without_epoch
    return REPACKED.sub("", without_revision)
