"""Writing a directory aside and swapping it in, so that a kill at any moment leaves the old one, the new one, or nothing."""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgekit_runtime.bundle import is_bundle
from edgekit_runtime.errors import OutputError

__all__ = ["check_destination", "swap_in", "translated_write_errors", "workspace"]

RENAME_EXCHANGE = 2
AT_FDCWD = -100
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_destination(out: Path) -> None:
    """Makes sure, before hours of work, that a bundle may be written to `out`.

    Raises:
        OutputError: Something that is not a bundle stands there, or its folder cannot be written to.
    """
    if out.is_symlink() or (out.exists() and not is_bundle(out) and not (out.is_dir() and not any(out.iterdir()))):
        raise OutputError(f"write {out}: it exists and is not a bundle, so it is left alone; choose another --out or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"write {out}: its folder cannot be made: {error.strerror}") from error
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"write {out}: no permission to write to {out.parent}")


@contextlib.contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, on the same disk; it is gone afterwards, and so are those of killed runs."""
    for stale in out.parent.glob(f".{out.name}.*.tmp"):
        if not _alive(stale):
            shutil.rmtree(stale, ignore_errors=True)
    with translated_write_errors(out):
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}.", suffix=".tmp", dir=out.parent))
    try:
        with translated_write_errors(out):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def swap_in(folder: Path, out: Path) -> None:
    """Puts the directory `folder` in the place of `out` in one step; what stood there is removed.

    Raises:
        OutputError: It could not be done; `out` is as it was.
    """
    with translated_write_errors(out):
        for file in sorted(folder.rglob("*")):
            _flush(file)
        _flush(folder)
        if not out.exists():
            folder.rename(out)
        elif _exchange(folder, out):
            shutil.rmtree(folder)
        else:
            # No exchange on this system: the old directory steps aside first. A kill between the two renames leaves it there.
            aside = folder.with_name(f"{folder.name}.old")
            out.rename(aside)
            folder.rename(out)
            shutil.rmtree(aside)
        _flush(out.parent)


@contextlib.contextmanager
def translated_write_errors(out: Path) -> Iterator[None]:
    """Tells a full disk and missing permissions in one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            free = shutil.disk_usage(out.parent).free
            raise OutputError(
                f"write {out}: no space left on the device ({free / 1e6:.0f} MB free); make room or choose another --out. "
                "What stood there before is untouched"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(f"write {out}: {error.strerror} ({error.filename})") from error
        raise


def _alive(folder: Path) -> bool:
    found = re.search(r"\.(\d+)\.[^.]*\.tmp$", folder.name)
    if found is None:
        return False
    try:
        os.kill(int(found.group(1)), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush(path: Path) -> None:
    """Brings a file or directory to the disk, so that a power cut cannot leave an empty one behind a new name."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems do not flush directories
            raise
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two directories in one step, where the system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    left, right = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        failed = libc.renameat2(AT_FDCWD, left, AT_FDCWD, right, RENAME_EXCHANGE)
    elif sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(left, right, RENAME_EXCHANGE)
    else:
        return False
    if failed and ctypes.get_errno() in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    return not failed
