"""The ledger: everything that a search has measured, kept under content keys as it goes.

Each entry is a small file, written aside and swapped in, under the SHA-256 of what it belongs to: the graph, the data, the machine,
the versions, and what was measured. A search that is repeated finds its entries and does not measure again; so does one that was
killed.

Each entry also says how long it took, and reading it moves the search's clock by as much. A search decides by that clock alone and
by what is in the ledger: one that was killed and taken up again decides as it would have in one go.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from edgekit_runtime.errors import OutputError

__all__ = ["Entry", "Ledger", "ledger_folder", "prune"]

T = TypeVar("T")

FORMAT = 2
"""Counted up when entries come to mean something else."""

# Model files of candidates lie in the ledger too. Searches that were not used for longest go first.
MOST_BYTES = 2_000_000_000


class Entry(msgspec.Struct, frozen=True):
    """One thing that was measured or built.

    Attributes:
        what: In words, for a person who looks into the file.
        seconds: How long it took.
        value: What came out.
        files: SHA-256 of the files that belong to it, by name.
    """

    what: str
    seconds: float
    value: Any
    files: dict[str, str] = {}


class Ledger:
    """Entries of one search.

    Args:
        folder: Where they are kept; it is made.
        context: What all of them depend on.

    Attributes:
        folder: Where they are kept.
        spent_s: The clock: how long everything took that was asked for so far, now or in an earlier run.
        last_s: How long the last thing took that was asked for.

    Raises:
        OutputError: The folder cannot be made.
    """

    def __init__(self, folder: Path, context: str) -> None:
        self.folder = folder / hashlib.sha256(f"{FORMAT} {context}".encode()).hexdigest()[:32]
        self.spent_s = self.last_s = 0.0
        self._own: set[str] = set()
        self._others: set[str] = set()
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)

    @property
    def made(self) -> int:
        """How many entries this search has made."""
        return len(self._own)

    @property
    def found(self) -> int:
        """How many it has used that were there before."""
        return len(self._others - self._own)

    def remember(self, what: str, details: object, measure: Callable[[], T], kind: type[T]) -> T:
        """What `measure` gives, or gave before.

        Args:
            what: The kind of thing, in words.
            details: What tells it from others of its kind; its `repr` counts.
            measure: Gives plain data or a struct of `kind`; what it raises is not kept.
            kind: Its type.
        """
        key = self._key(what, details)
        entry = self._read(key)
        if entry is None:
            start = perf_counter()
            value = measure()
            entry = Entry(what, perf_counter() - start, value)
            self._write(key, entry)
        self._pass(entry.seconds)
        return msgspec.convert(msgspec.to_builtins(entry.value), kind)

    def charge(self, what: str, seconds: float) -> None:
        """Moves the clock by what something took that is done in every run, as it took the first time."""
        key = self._key(what, None)
        entry = self._read(key)
        if entry is None:
            entry = Entry(what, seconds, None)
            self._write(key, entry)
        self._pass(entry.seconds)

    def build(
        self, what: str, details: object, write: Callable[[Path], T], kind: type[T], suffix: str = ".onnx"
    ) -> tuple[Path, T, str]:
        """A file that `write` writes, or wrote before, what it says of it, and the SHA-256 of all that it wrote.

        A file that is no longer as it was written is made anew.

        Args:
            what: The kind of thing, in words.
            details: What tells it from others of its kind.
            write: Writes the file to the path that it is given, and no others but what begins with that name; it may write none.
            kind: Type of what it says.
            suffix: How the file's name ends.
        """
        key = self._key(what, details)
        path = self.folder / f"{key}{suffix}"
        entry = self._read(key)
        if entry is None or any(_sha256(self.folder / name) != sha for name, sha in entry.files.items()):
            start = perf_counter()
            with _told(self.folder), tempfile.TemporaryDirectory(prefix=".aside-", dir=self.folder) as aside:
                value = write(Path(aside) / path.name)
                made = sorted(Path(aside).iterdir())
                files = {file.name: _sha256(file) for file in made}
                for file in made:
                    file.replace(self.folder / file.name)
            entry = Entry(what, perf_counter() - start, value, {name: sha for name, sha in files.items() if sha})
            self._write(key, entry)
        self._pass(entry.seconds)
        sha = hashlib.sha256(repr(list(entry.files.values())).encode()).hexdigest()
        return path, msgspec.convert(msgspec.to_builtins(entry.value), kind), sha

    def _pass(self, seconds: float) -> None:
        self.last_s = seconds
        self.spent_s += seconds

    def _key(self, what: str, details: object) -> str:
        return hashlib.sha256(repr((what, details)).encode()).hexdigest()[:32]

    def _read(self, key: str) -> Entry | None:
        try:
            entry = msgspec.json.decode((self.folder / f"{key}.json").read_bytes(), type=Entry)
        except (FileNotFoundError, msgspec.DecodeError):
            return None  # a damaged entry is measured again
        if key not in self._own:
            self._others.add(key)
        return entry

    def _write(self, key: str, entry: Entry) -> None:
        self._own.add(key)
        path = self.folder / f"{key}.json"
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        with _told(path):
            aside.write_bytes(msgspec.json.encode(entry))
            aside.replace(path)

    def clear(self) -> None:
        """Forgets everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)


def ledger_folder() -> Path:
    """Where searches are kept: ``$EDGEKIT_CACHE``, or ``edgekit`` in the user's cache folder."""
    given = os.environ.get("EDGEKIT_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"
    return base / "searches"


def prune(folder: Path, keep: Path, most_bytes: int = MOST_BYTES) -> None:
    """Removes the searches that were not used for longest, until the rest fits; `keep` stays."""
    searches = sorted(
        (entry for entry in folder.iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime, reverse=True
    )
    total = 0
    for search in sorted(searches, key=lambda entry: entry != keep):
        total += sum(file.stat().st_size for file in search.rglob("*") if file.is_file())
        if total > most_bytes and search != keep:
            shutil.rmtree(search, ignore_errors=True)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _told(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"keep the search in {where}: {error.strerror or error}; make room, or set EDGEKIT_CACHE to a folder that is writable"
        ) from error
