"""Folders with the peers' wheels, for the boards and for this machine, below ``build/arm_peers``."""

import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.ten_networks import ROOT
from edgekit.labs.emulated.pins import Wheel, pins
from edgekit.labs.emulated.tools import run_tool
from edgekit.labs.emulated.wheels import fetch_wheel, find_wheel, unpack_wheel
from edgekit_runtime.errors import LabError

__all__ = ["BUILD", "PINS", "converter", "fetched", "peer_pins", "site"]

BUILD = ROOT / "build" / "arm_peers"
PINS = Path(__file__).with_name("pins.toml")
STAMP = "wheel.sha256"


class PeerPins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The wheels that are compared.

    Attributes:
        board: For the boards, by package.
        here: For this machine, by package.
    """

    board: dict[str, Wheel]
    here: dict[str, Wheel]


def peer_pins() -> PeerPins:
    """The pins of `pins.toml`."""
    return msgspec.convert(tomllib.loads(PINS.read_text("utf-8")), PeerPins)


def site(package: str) -> Path:
    """A folder from which a package can be imported on the boards; fetched where it is not there yet.

    Raises:
        LabError: pip reaches no index that has the wheel, or its checksum is another.
    """
    wheel = peer_pins().board[package]
    return fetched(package, wheel, lambda folder: fetch_wheel(package, wheel, pins().python, folder))


def converter() -> Path:
    """The program pnnx, which writes ncnn's files from ONNX; fetched where it is not there yet.

    Raises:
        LabError: As of `site`.
    """
    package, wheel = "pnnx", peer_pins().here["pnnx"]
    program = fetched(package, wheel, lambda folder: _fetch_here(package, wheel, folder)) / "pnnx" / "pnnx"
    program.chmod(0o755)
    return program


def fetched(package: str, wheel: Wheel, fetch: Callable[[Path], Path]) -> Path:
    """The folder of an unpacked wheel; one that is there is kept as long as its pin stays.

    Args:
        package: Its name.
        wheel: Its pin.
        fetch: Fetches it into an empty folder.
    """
    folder = BUILD / "sites" / package
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text("ascii") == wheel.sha256:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".aside-", dir=folder.parent) as aside:
        downloads, unpacked = Path(aside) / "downloads", Path(aside) / "unpacked"
        downloads.mkdir()
        unpack_wheel(fetch(downloads), unpacked)
        (unpacked / STAMP).write_text(wheel.sha256, "ascii")
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.replace(folder)
    return folder


def _fetch_here(package: str, wheel: Wheel, folder: Path) -> Path:
    """Fetches a wheel for this machine."""
    what = f"fetch {package} {wheel.version} for this machine"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run_tool([*command, "--only-binary=:all:", "--dest", str(folder), f"{package}=={wheel.version}"], what)
    found = find_wheel(package, wheel, folder)
    if found is None:
        raise LabError(
            f"{what}: what pip fetched is not the file with SHA-256 {wheel.sha256[:16]}…, which is for x86-64; "
            "convert on such a machine, or change benchmarks/arm_rivals/pins.toml"
        )
    return found
