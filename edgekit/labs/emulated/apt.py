"""Debian packages without root: apt-get with a state of its own, which knows no installed package, and dpkg only to unpack.

The machine's own sources and keys are used, so a package is checked as one that is installed would be: its checksum is in a list
that Debian has signed.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgekit.labs.emulated.pins import pins, upstream_version
from edgekit.labs.emulated.tools import need_tool, run_tool
from edgekit_runtime.errors import LabError

__all__ = ["Apt", "Package", "host_architecture", "unpack"]

URI_LINE = re.compile(r"^'(?P<uri>[^']*)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")


class Package(msgspec.Struct, frozen=True):
    """A package as the machine's sources offer it.

    Attributes:
        name: Debian's name of it.
        version: Debian's version.
        architecture: Its architecture.
        file: Name of its file.
        sha256: Checksum of its file, from the signed lists.
        size_bytes: Size of its file.
    """

    name: str
    version: str
    architecture: str
    file: str
    sha256: str
    size_bytes: int


class Apt(msgspec.Struct, frozen=True):
    """One apt configuration.

    Attributes:
        folder: Where its state is kept.
        architecture: As Debian calls it: ``amd64``, ``arm64``.
    """

    folder: Path
    architecture: str

    def options(self) -> list[str]:
        """What makes apt-get keep everything in the folder and take no notice of what is installed."""
        settings = {
            "Dir::State": self.folder / "state",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures::": self.architecture,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": 2,
            "Acquire::http::Timeout": 30,
            "Acquire::https::Timeout": 30,
        }
        return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def update(self) -> str:
        """Fetches the lists of packages, unless that was done before; gives what failed of it.

        One source out of several may fail that has nothing to do with the lab. So nothing is raised before a package is missing.

        Raises:
            LabError: There is no apt-get.
        """
        fetched = self.folder / "fetched"
        if fetched.exists():
            return ""
        program = need_tool("apt-get", "fetches the emulator and the boards' system from Debian")
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        command = [program, *self.options(), "-o", "APT::Update::Error-Mode=any", "update"]
        try:
            run_tool(command, f"fetch the lists of packages for {self.architecture}")
        except LabError as error:
            return str(error)
        fetched.touch()
        return ""

    def forget_lists(self) -> None:
        """Lets the next `update` fetch the lists anew: a mirror has moved on since."""
        (self.folder / "fetched").unlink(missing_ok=True)

    def offers(self, wanted: Mapping[str, str]) -> list[Package]:
        """What the machine's sources offer.

        Args:
            wanted: Upstream versions by package.

        Raises:
            LabError: A package is missing, or of another upstream version, or the sources cannot be reached.
        """
        trouble = self.update()
        what = f"set up the lab: find {', '.join(wanted)} for {self.architecture}"
        command = [need_tool("apt-get", "finds packages"), *self.options(), "--print-uris", "download", *wanted]
        try:
            told = run_tool(command, what)
        except LabError as error:
            way_out = f"{trouble}; see that this machine reaches its apt sources" if trouble else _release_hint()
            raise LabError(f"{error}; {way_out}, and run the set-up again") from error
        offered = [package for package in map(_package, told.splitlines()) if package is not None]
        missing = sorted(set(wanted) - {package.name for package in offered})
        if missing:
            raise LabError(f"{what}: apt-get does not tell where {', '.join(missing)} is; {_release_hint()}")
        for package in offered:
            upstream = upstream_version(package.version)
            if upstream != wanted[package.name]:
                raise LabError(
                    f"{what}: the machine's sources offer {package.name} {upstream}, the lab needs {wanted[package.name]}; "
                    f"{_release_hint()}"
                )
        return offered

    def fetch(self, packages: Sequence[Package], folder: Path) -> None:
        """Puts packages' files into a folder; apt-get checks each against the signed lists.

        Raises:
            LabError: One cannot be fetched.
        """
        names = [f"{package.name}={package.version}" for package in packages]
        what = f"set up the lab: fetch {', '.join(package.name for package in packages)} for {self.architecture}"
        run_tool([need_tool("apt-get", "fetches packages"), *self.options(), "download", *names], what, folder=folder)


def host_architecture() -> str:
    """This machine's architecture, as Debian calls it.

    Raises:
        LabError: There is no dpkg.
    """
    program = need_tool("dpkg", "unpacks the emulator and the boards' system")
    return run_tool([program, "--print-architecture"], "set up the lab: ask dpkg for this machine's architecture").strip()


def unpack(package: Path, folder: Path) -> None:
    """Unpacks a package's files into a folder; none of its scripts is run.

    Raises:
        LabError: dpkg could not.
    """
    run_tool([need_tool("dpkg", "unpacks packages"), "-x", str(package), str(folder)], f"set up the lab: unpack {package.name}")


def _package(line: str) -> Package | None:
    found = URI_LINE.match(line.strip())
    if not found:
        return None
    file = found["file"]
    name, version, architecture = file.removesuffix(".deb").rsplit("_", 2)
    return Package(name, version.replace("%3a", ":"), architecture, file, found["sha256"], int(found["size"]))


def _release_hint() -> str:
    return f"the lab is made of packages of {pins().release}: set it up there, or in a container of it"
