"""Which wheels there are of what the runtime needs, as pip found them once, from `wheels.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

import msgspec

__all__ = ["Found", "System", "WheelFacts", "Wheels", "wheel_facts"]


class Found(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest wheel of a package.

    Attributes:
        version: Its version.
        glibc: The oldest glibc that its tag names.
    """

    version: str
    glibc: str


class Wheels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wheels for one Python.

    Attributes:
        architectures: The architectures that all of them are for.
        python: Python's version, such as ``3.11``.
        packages: What was found, by package; one that is missing has no wheel.
    """

    architectures: tuple[str, ...]
    python: str
    packages: dict[str, Found]


class System(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operating system.

    Attributes:
        name: What it is called.
        python: The Python that it brings.
        glibc: Its C library's version.
    """

    name: str
    python: str
    glibc: str


class WheelFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was tested.

    Attributes:
        tested: The day.
        wheels: What was found.
        systems: Operating systems by name.
        runs_on: Names of the systems that a target runs on; targets that are no boards are not among them.
        without_python: Targets that need no Python, each with what opens the model there.
    """

    tested: str
    wheels: tuple[Wheels, ...]
    systems: dict[str, System]
    runs_on: dict[str, tuple[str, ...]]
    without_python: dict[str, str]

    def of(self, architecture: str, python: str) -> Wheels | None:
        """Wheels for an architecture and a Python; ``None`` where nobody asked."""
        return next((found for found in self.wheels if architecture in found.architectures and python == found.python), None)

    def systems_of(self, target: str) -> list[System]:
        """Systems that a target runs on; none where that is not known."""
        return [self.systems[name] for name in self.runs_on.get(target, ())]


@cache
def wheel_facts() -> WheelFacts:
    """The facts."""
    text = (resources.files("edgekit.checkup") / "wheels.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), WheelFacts)
