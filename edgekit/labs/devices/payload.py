"""What is put on a board: the runtime's own files, wheels for its Python, and a bundle's or a model's files."""

import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import msgspec

import edgekit_runtime
from edgekit.labs.devices.board import NEEDED, Board, wheel_platforms
from edgekit.progress import Progress
from edgekit_runtime.bundle import check_files, file_entry, read_manifest
from edgekit_runtime.errors import BundleError, DeviceError
from edgekit_runtime.external_data import external_locations
from edgekit_runtime.manifest import MANIFEST

__all__ = ["Payload", "model_payload", "runtime_payload", "wheels_payload"]

DIGITS = 16
PIP_TIMEOUT_S = 900


class Payload(msgspec.Struct, frozen=True):
    """Files that belong together.

    Attributes:
        folder: Where they go, below the board's folder of ours; it ends in a hash of them all.
        sources: The files here, by name below `folder`.
        entries: SHA-256 and size, by name.
        opened: The name that a worker opens; empty for the folder itself.
    """

    folder: str
    sources: dict[str, Path]
    entries: dict[str, tuple[str, int]]
    opened: str = ""


def runtime_payload() -> Payload:
    """The runtime's files, as they are installed here, be that from a checkout or from a wheel."""
    package = Path(edgekit_runtime.__file__).parent
    files = [path for path in sorted(package.rglob("*")) if path.suffix == ".py" or path.name == "py.typed"]
    return _payload("runtime", {f"{package.name}/{path.relative_to(package).as_posix()}": path for path in files})


def wheels_payload(name: str, board: Board, cache: Path, progress: Progress) -> Payload:
    """Wheels of the packages that the runtime needs, for the board's Python, in the versions that are installed here.

    They are fetched once and kept.

    Args:
        name: What messages call the board.
        board: What it is.
        cache: Where wheels are kept, in a folder of their own.
        progress: Told where they are fetched.

    Raises:
        DeviceError: There are no wheels for such a board, or pip cannot fetch them.
    """
    platforms = wheel_platforms(name, board)
    python = ".".join(map(str, board.python[:2]))
    wanted = [f"{package}=={version(package)}" for package in NEEDED]
    key = hashlib.sha256(repr((platforms, python, wanted)).encode()).hexdigest()[:DIGITS]
    folder = cache / "wheels" / key
    if not folder.is_dir():
        what = f"fetch {' '.join(wanted)} for Python {python} on {board.machine}, for {name}"
        if importlib.util.find_spec("pip") is None:
            raise DeviceError(
                f"{what}: there is no pip in {sys.executable}; run {sys.executable} -m ensurepip, or install them there"
            )
        progress.stage(what)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{key}.", dir=folder.parent) as aside:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
            command += ["--implementation=cp", f"--python-version={python}", "--dest", f"{aside}/wheels"]
            _fetch([*command, *(f"--platform={platform}" for platform in platforms), *wanted], what)
            Path(aside, "wheels").rename(folder)
    return _payload("site", {path.name: path for path in sorted(folder.glob("*.whl"))})


def model_payload(path: Path) -> Payload:
    """A bundle's files, checked against its manifest, or a model's with its external data.

    Raises:
        BundleError: The bundle is damaged, or the model keeps weights outside its own folder, or `path` is neither.
    """
    if path.is_file():
        names = [path.name, *sorted(external_locations(path) if path.suffix != ".ort" else ())]
        sources = {name: path.parent / name for name in names}
        for name, file in sources.items():
            if path.parent.resolve() not in file.resolve().parents or not file.is_file():
                raise BundleError(
                    f"send {path}: it keeps weights in {name!r}, which is no file beside it or below; export it again"
                )
        return _payload(f"bundles/{_plain(path.stem)}", sources, opened=path.name)
    manifest = read_manifest(path)
    check_files(path, manifest)
    return _payload(f"bundles/{_plain(path.name)}", {name: path / name for name in (MANIFEST, *sorted(manifest.files))})


def _payload(stem: str, sources: Mapping[str, Path], opened: str = "") -> Payload:
    entries = {}
    for name, path in sources.items():
        entry = file_entry(path)
        entries[name] = (entry.sha256, entry.size_bytes)
    digest = hashlib.sha256(repr(sorted(entries.items())).encode()).hexdigest()[:DIGITS]
    return Payload(f"{stem}-{digest}", dict(sources), entries, opened)


def _fetch(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"{what}: pip did not finish within {PIP_TIMEOUT_S} s; try again") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = (
            errors[-1].removeprefix("ERROR:").strip() if errors else (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        )
        raise DeviceError(f"{what}: pip says: {reason}; let pip here reach an index that has them, or install them on the device")


def _plain(name: str) -> str:
    """A name of letters that mean the same on every file system."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name.removesuffix(".edge")).lstrip(".") or "model"
