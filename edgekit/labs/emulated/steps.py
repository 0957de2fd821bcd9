"""Steps of the set-up: what a finished one leaves behind, and folders that are built aside."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.pins import pins
from edgekit.labs.emulated.plugin import counting_source

__all__ = ["Part", "Step", "built_aside", "finished_step", "mark_finished", "step_key"]

FORMAT = 1
"""Counted up when a step comes to do something else with the same pins."""


class Part(msgspec.Struct, frozen=True):
    """Something that was fetched.

    Attributes:
        name: A package.
        version: Its version; for Debian's with their revision.
        sha256: Checksum of its file.
    """

    name: str
    version: str
    sha256: str


class Step(msgspec.Struct, frozen=True):
    """One finished step, as its marker holds it.

    Attributes:
        name: Its name.
        key: What it was made of.
        seconds: How long it took.
        parts: What was fetched for it.
    """

    name: str
    key: str
    seconds: float
    parts: list[Part]


def step_key(name: str) -> str:
    """What a step depends on."""
    made_of: dict[str, Any] = {
        "emulator": (pins().emulator, pins().libraries),
        "userland": pins().userland,
        "packages": (pins().python, pins().wheels),
        "plugin": counting_source(),
        "trial": pins(),
    }
    return hashlib.sha256(repr((FORMAT, made_of[name])).encode()).hexdigest()[:32]


def finished_step(lab: Lab, name: str) -> Step | None:
    """A step's marker, if it is finished with what is pinned now."""
    try:
        step = msgspec.json.decode((lab.markers / f"{name}.json").read_bytes(), type=Step)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    folder = {"emulator": lab.emulator, "userland": lab.sysroot, "packages": lab.site, "plugin": lab.plugins}.get(name)
    return step if step.key == step_key(name) and (folder is None or folder.is_dir()) else None


def mark_finished(lab: Lab, step: Step) -> None:
    """Writes a step's marker."""
    lab.markers.mkdir(parents=True, exist_ok=True)
    aside = lab.markers / f".{step.name}.tmp"
    aside.write_bytes(msgspec.json.encode(step))
    aside.replace(lab.markers / f"{step.name}.json")


@contextlib.contextmanager
def built_aside(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when all went well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(stale, ignore_errors=True)  # of a set-up that was killed; there is one set-up at a time
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        aside.chmod(0o755)
        yield aside
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
