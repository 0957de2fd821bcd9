"""What runs on a board before the runtime is there: on its Python alone, of any version since 3.7, given over standard input.

`script` makes the text that is sent: this file and one order. The answer is one line, after a marker, since login scripts print
things too. Files arrive in ``incoming`` under their SHA-256, are checked here, and come to stand at their place all at once, by a
rename: a connection that is lost at any moment leaves nothing half-installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import random
import shutil
import struct
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MARKER", "probe", "script", "serve", "settle", "unpack", "wanted"]

MARKER = "edgekit-answer:"
PACKAGES = ("numpy", "onnxruntime", "msgspec")
# What killed sessions left longer ago than this belongs to nobody.
STALE_S = 24 * 3600
KEPT_VERSIONS = 3
CHUNK = 1 << 20
WHOLE = ".whole"
PARTIAL = ".partial"


def script(order: dict[str, object]) -> bytes:
    """The text to be sent to a board's Python.

    Args:
        order: The name of a function below as ``do``, and its arguments.
    """
    return Path(__file__).read_bytes() + f"\nserve({json.dumps(order)!r})\n".encode("ascii")


def serve(text: str) -> None:
    """Carries out an order and prints its answer."""
    order = json.loads(text)
    os.umask(0o077)  # models are their owner's business
    known: dict[str, Callable[..., dict[str, object]]] = {"probe": probe, "wanted": wanted, "settle": settle, "unpack": unpack}
    try:
        answer: dict[str, object] = {"done": known[order.pop("do")](**order)}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    sys.stdout.write(f"\n{MARKER}{json.dumps(answer)}\n")


def probe(root: str) -> dict[str, object]:
    """What this board is and has.

    Args:
        root: Where everything of ours goes, below the home folder; it need not be there yet.
    """
    versions = {}
    if sys.version_info >= (3, 8):  # noqa: UP036 - this is how a board with an older Python comes to say so
        from importlib import metadata

        for name in PACKAGES:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
    return {
        "python": list(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "system": platform.system(),
        "bits": 8 * struct.calcsize("P"),
        "libc": list(platform.libc_ver()),
        "packages": versions,
        "root": str(Path.home() / root),
        "free_bytes": shutil.disk_usage(Path.home()).free,
    }


def wanted(root: str, folder: str, files: dict[str, tuple[str, int]]) -> dict[str, object]:
    """Which files have to be sent, each with the bytes of it that are here already.

    What an earlier version of the same folder holds is taken from there.

    Args:
        root: Where everything of ours goes.
        folder: Where the files are to be, below it; versions of one thing are named alike up to the last hyphen.
        files: SHA-256 and size by name below `folder`.
    """
    place, incoming = _inside(Path(root), folder), Path(root) / "incoming"
    _make(incoming)
    if place.is_dir():
        os.utime(place)  # the newest stay
        return {"settled": True, "missing": {}}
    _sweep(place.parent, incoming)
    needed = {sha: size for sha, size in files.values() if not (incoming / f"{sha}{WHOLE}").exists()}
    for path in [file for version in _versions(place) for file in version.rglob("*") if file.is_file()]:
        size = path.stat().st_size
        if size in needed.values():
            sha = _sha256(path)
            if needed.get(sha) == size:
                _link(path, incoming / f"{sha}{WHOLE}")
                del needed[sha]
    begun = {}
    for sha, size in needed.items():
        part = incoming / sha
        begun[sha] = part.stat().st_size if part.exists() else 0
        if begun[sha] > size:
            part.unlink()
            begun[sha] = 0
    return {"settled": False, "missing": begun}


def settle(root: str, folder: str, files: dict[str, tuple[str, int]]) -> dict[str, object]:
    """Checks what arrived and puts it to its place, all at once; what is damaged is removed and named."""
    place, incoming = _inside(Path(root), folder), Path(root) / "incoming"
    damaged = _damaged(incoming, files)
    if not damaged:
        with _built_aside(place) as aside:
            for name, (sha, _) in files.items():
                path = _inside(aside, name)
                _make(path.parent)
                _link(incoming / f"{sha}{WHOLE}", path)
        _tidy(place, incoming, files)
    return {"damaged": damaged}


def unpack(root: str, folder: str, files: dict[str, tuple[str, int]]) -> dict[str, object]:
    """Checks wheels that arrived and unpacks them to their place, all at once, as pip does with ``--target``."""
    place, incoming = _inside(Path(root), folder), Path(root) / "incoming"
    damaged = _damaged(incoming, files)
    if not damaged:
        with _built_aside(place) as aside:
            for sha, _ in files.values():
                with zipfile.ZipFile(incoming / f"{sha}{WHOLE}") as wheel:
                    _unpack_wheel(wheel, aside)
        _tidy(place, incoming, files)
    return {"damaged": damaged}


def _unpack_wheel(wheel: zipfile.ZipFile, site: Path) -> None:
    for member in wheel.infolist():
        parts = member.filename.split("/")
        if parts[0].endswith(".data"):
            if parts[1] not in ("purelib", "platlib"):
                continue  # scripts and headers
            parts = parts[2:]
        if not parts[-1]:
            continue  # a folder
        path = _inside(site, "/".join(parts))
        _make(path.parent)
        with wheel.open(member) as packed, path.open("wb") as file:
            shutil.copyfileobj(packed, file, CHUNK)


def _damaged(incoming: Path, files: dict[str, tuple[str, int]]) -> list[str]:
    """SHA-256 of the files that did not arrive as they were sent, which are removed; those that did are marked as whole."""
    damaged = []
    for sha, _ in files.values():
        part, whole = incoming / sha, incoming / f"{sha}{WHOLE}"
        if whole.exists():
            continue
        if part.exists() and _sha256(part) == sha:
            part.replace(whole)
            continue
        damaged.append(sha)
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    return damaged


@contextlib.contextmanager
def _built_aside(place: Path) -> Iterator[Path]:
    """A folder beside `place` that takes its place when it is finished, brought to the disk before it is seen."""
    aside = _aside(place)
    _make(aside)
    try:
        yield aside
        for path in [*aside.rglob("*"), aside]:
            descriptor = os.open(str(path), os.O_RDONLY)
            try:
                with contextlib.suppress(OSError):  # some file systems do not flush folders
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        try:
            aside.rename(place)
        except OSError:
            if not place.is_dir():  # unless another session was quicker, with the same files
                raise
    finally:
        shutil.rmtree(str(aside), ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.{os.getpid()}-{random.getrandbits(32):08x}{PARTIAL}")


def _tidy(place: Path, incoming: Path, files: dict[str, tuple[str, int]]) -> None:
    """Removes what arrived and now stands at its place, and old versions of the same thing, lest a board's card fill up."""
    for sha, _ in files.values():
        with contextlib.suppress(FileNotFoundError):
            (incoming / f"{sha}{WHOLE}").unlink()
    os.utime(place)
    for version in _versions(place)[KEPT_VERSIONS:]:
        with contextlib.suppress(OSError):
            doomed = _aside(version)
            version.rename(doomed)  # gone at once, whatever happens during the removal
            shutil.rmtree(str(doomed), ignore_errors=True)


def _sweep(*folders: Path) -> None:
    """Removes what killed sessions left long ago."""
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    if path.name.endswith(PARTIAL):
                        shutil.rmtree(str(path), ignore_errors=True)
                    elif folder.name == "incoming":
                        path.unlink()


def _versions(place: Path) -> list[Path]:
    """Folders that are versions of the same thing as `place`, newest first."""
    stem = place.name.rpartition("-")[0]
    beside = list(place.parent.iterdir()) if place.parent.is_dir() else []
    found = [path for path in beside if path.name.rpartition("-")[0] == stem and path.is_dir()]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _inside(folder: Path, name: str) -> Path:
    path = Path(os.path.normpath(str(folder / name)))
    if folder not in path.parents:
        raise ValueError(f"{name!r} leaves its folder; refused")
    return path


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _link(source: Path, target: Path) -> None:
    """A second name for a file where the disk can, else a copy."""
    try:
        os.link(str(source), str(target))
    except FileExistsError:
        return
    except OSError:
        aside = target.with_name(f"{target.name}.copy")
        shutil.copyfile(str(source), str(aside))
        aside.replace(target)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()
