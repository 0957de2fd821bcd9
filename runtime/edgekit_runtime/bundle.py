"""Reading a bundle: every file is there, none is extra, and each has the SHA-256 that the manifest promises."""

import hashlib
import stat
from pathlib import Path

from edgekit_runtime.errors import BundleError
from edgekit_runtime.external_data import external_locations
from edgekit_runtime.manifest import MANIFEST, FileEntry, Manifest, decode_manifest

__all__ = ["check_files", "file_entry", "is_bundle", "read_manifest"]


def is_bundle(path: Path) -> bool:
    """Whether `path` is a directory with a manifest."""
    return (path / MANIFEST).is_file()


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at `path`.

    Raises:
        BundleError: `path` is no bundle, or its manifest is damaged or too new.
    """
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise BundleError(f"open {path}: it {problem}; a bundle is a directory with a {MANIFEST}")
    try:
        if (path / MANIFEST).is_symlink():
            raise BundleError(f"open {path}: {MANIFEST} is a link, not a plain file; copy the bundle again")
        data = (path / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"open {path}: there is no {MANIFEST} in it, so it is not a bundle") from error
    except OSError as error:
        raise BundleError(f"open {path}: {MANIFEST} cannot be read: {error.strerror or error}") from error
    return decode_manifest(data, str(path))


def check_files(path: Path, manifest: Manifest) -> None:
    """Checks every file of the bundle at `path` against its manifest, before anything else reads them.

    Raises:
        BundleError: A file is missing, extra, a link, or has other bytes than the manifest promises, or the model keeps
            weights in a file that is not the bundle's.
    """
    try:
        present = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise BundleError(f"open {path}: it cannot be listed: {error.strerror or error}") from error
    for extra in sorted(present - {MANIFEST, *manifest.files}):
        raise BundleError(f"open {path}: {extra} is not part of the bundle; remove it or copy the bundle again")
    for name, promised in manifest.files.items():
        if name not in present:
            raise BundleError(f"open {path}: {name} is missing; copy the bundle again")
        try:
            _check_file(path, name, promised)
        except OSError as error:
            raise BundleError(f"open {path}: {name} cannot be read: {error.strerror or error}") from error
    if not manifest.model.endswith(".ort"):  # that format has no paths
        outside = sorted(external_locations(path / manifest.model) - manifest.files.keys())
        if outside:
            raise BundleError(f"open {path}: {manifest.model} keeps weights in {outside[0]!r}, not a file of the bundle; refused")


def _check_file(path: Path, name: str, promised: FileEntry) -> None:
    # lstat before anything opens it: a link, a pipe or a device is not read at all.
    status = (path / name).lstat()
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"open {path}: {name} is not a plain file; copy the bundle again")
    if status.st_size != promised.size_bytes:
        raise BundleError(
            f"open {path}: {name} has {status.st_size} bytes, the manifest promises {promised.size_bytes}; "
            "it is truncated or changed, copy the bundle again"
        )
    if file_entry(path / name).sha256 != promised.sha256:
        raise BundleError(f"open {path}: {name} is damaged (its SHA-256 does not fit); copy the bundle again")


def file_entry(path: Path) -> FileEntry:
    """SHA-256 and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(digest, path.stat().st_size)
