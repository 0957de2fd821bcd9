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
OLD = "old"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_destination(out: Path) -> None:
    """Makes sure, before hours of work, that a bundle may be written to `out`.

    Raises:
        OutputError: Something that is not a bundle stands there, or its folder cannot be written to.
    """
    if out.name in ("", ".."):
        raise OutputError(f"write {out}: it is no name for a bundle; choose an --out such as model.edge")
    with translated_write_errors(out):
        if out.is_symlink() or (out.exists() and not is_bundle(out) and not (out.is_dir() and not any(out.iterdir()))):
            raise OutputError(f"write {out}: it exists and is not a bundle, so it is left alone; choose another --out or remove it")
        out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"write {out}: no permission to write to {out.parent}")


@contextlib.contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, on the same disk; it is gone afterwards, and so are those of killed runs."""
    for stale in _stale(out):
        if is_bundle(stale / OLD) and not out.exists():
            (stale / OLD).rename(out)
        shutil.rmtree(stale, ignore_errors=True)
    with translated_write_errors(out):
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}.", suffix=".tmp", dir=out.parent))
    try:
        # Not every OSError in here is about writing: what is done meanwhile reads the user's files too.
        with _full_disk_told(out):
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
            shutil.rmtree(folder, ignore_errors=True)  # the new bundle stands; the workspace goes with what is left
        else:
            _step_aside(folder, out)
        _flush(out.parent)


def _step_aside(folder: Path, out: Path) -> None:
    """Swaps by two renames, where the system knows no exchange; `workspace` puts the old one back after a kill in between."""
    aside = folder.with_name(OLD)
    out.rename(aside)
    try:
        folder.rename(out)
    except BaseException:
        aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def translated_write_errors(out: Path) -> Iterator[None]:
    """Tells a full disk, missing permissions and whatever else keeps `out` from being written in one clear line."""
    try:
        with _full_disk_told(out):
            yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise OutputError(f"write {out}: {error.strerror or error}{where}") from error


@contextlib.contextmanager
def _full_disk_told(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        free = f" ({shutil.disk_usage(out.parent).free / 1e6:.0f} MB free)" if out.parent.is_dir() else ""
        raise OutputError(
            f"write {out}: no space left on the device{free}; make room or choose another --out. "
            "What stood there before is untouched"
        ) from error


def _stale(out: Path) -> list[Path]:
    """Workspaces beside `out` whose process is gone."""
    if os.name != "posix":
        return []  # there, asking for a process by its id can end it
    name = re.compile(rf"\.{re.escape(out.name)}\.(\d+)\.\w+\.tmp")
    found = ((name.fullmatch(entry.name), entry) for entry in out.parent.iterdir()) if out.parent.is_dir() else ()
    return [entry for match, entry in found if match and entry.is_dir() and not _alive(int(match.group(1)))]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
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
    if sys.platform not in ("linux", "darwin"):
        return False
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
