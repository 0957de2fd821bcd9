"""Targets: where a model will run, and what is worth trying there."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from edgekit_runtime.errors import TargetError
from edgekit_runtime.machine import Machine, machine
from edgekit_runtime.session import Provider

__all__ = ["Measured", "Target", "load_target", "target_names"]

Measured = Literal["real", "emulated", "software", "static"]
"""How a target's figures come about.

- ``real``: on the processor itself.
- ``emulated``: in an emulator; its times are never given as latency.
- ``software``: integer arithmetic computed exactly on this machine; no latency.
- ``static``: nothing is run.
"""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One target.

    Attributes:
        name: Its name.
        description: What it is, in a sentence.
        architecture: ``x86_64``, ``aarch64``, or ``any``.
        isa: Instruction sets that matter to int8 and that it has.
        provider: The execution provider, with its options.
        static: Flavours of static int8 worth trying, best first.
        dynamic: Flavours of dynamic int8 worth trying.
        methods: Calibration methods worth trying.
        placements: Placements worth trying.
        corrections: Corrections worth trying with the first flavour, each as in names of schemes, such as ``equalized-debiased``.
        weights: Formats of weights in blocks worth trying, such as ``int4-b32``; only the first where latency is to be gained.
        half: 16-bit floats worth trying, such as ``float16``; those that are ``-stored`` only where size is to be gained.
        fixed_shapes: Whether the provider takes no free axes.
        measured: How it can be measured: ``real`` only where this machine is one.
    """

    name: str
    description: str
    architecture: str
    isa: tuple[str, ...] = ()
    provider: Provider = Provider()
    static: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("minmax", "percentile", "mse")
    placements: tuple[str, ...] = ("everything", "convnet", "linear", "weighted", "conv")
    corrections: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    half: tuple[str, ...] = ()
    fixed_shapes: bool = False
    measured: Measured = "software"

    def measured_on(self, here: Machine, providers: tuple[str, ...]) -> Measured:
        """How it can be measured from the machine `here`, which has the execution `providers`."""
        fits = self.architecture in (here.architecture, "any") and set(self.isa) <= set(here.isa)
        if self.measured == "real" and not (fits and self.provider.name in providers):
            return "software"
        return self.measured


def target_names() -> list[str]:
    """Names of the built-in targets."""
    files = resources.files("edgekit.targets").iterdir()
    return sorted(["host", *(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))])


def load_target(name: str) -> Target:
    """A built-in target by name, or a user's own by the path of its TOML file.

    Raises:
        TargetError: There is no such target, or its file does not hold.
    """
    if name == "host":
        return _host()
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise TargetError(f"load target {name}: there is no such file")
        try:
            return _decode(path.read_bytes(), path.stem, name)
        except OSError as error:
            raise TargetError(f"load target {name}: it cannot be read: {error.strerror or error}") from error
    if name not in target_names():
        raise TargetError(f"load target {name!r}: unknown; there are {', '.join(target_names())}, or give a path to a .toml file")
    return _decode((resources.files("edgekit.targets") / f"{name}.toml").read_bytes(), name, name)


def _decode(data: bytes, name: str, where: str) -> Target:
    try:
        return msgspec.convert({"name": name, **tomllib.loads(data.decode())}, Target)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise TargetError(f"load target {where}: its file does not hold: {error}") from error


def _host() -> Target:
    """This machine, as the built-in target that it resembles most."""
    here = machine()
    if here.architecture == "x86_64":
        base = "cpu-x64" if "vnni" in here.isa else "cpu-x64-avx2"
    elif here.architecture == "aarch64":
        base = "cpu-arm64"
    else:
        raise TargetError(f"load target host: nothing is known of {here.architecture}; name a target, or write a .toml file")
    return msgspec.structs.replace(
        load_target(base), name="host", description=f"this machine: {here.cpu}", isa=here.isa, measured="real"
    )
