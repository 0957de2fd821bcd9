"""Candidates: the ways of deploying that suit a target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.target import Target
from edgekit_runtime.errors import TargetError
from edgekit_runtime.session import Provider, SessionConfig

if TYPE_CHECKING:
    from edgekit_export import Flavour, Scheme

__all__ = ["Candidate", "candidates_for", "scheme_named"]

# The other methods clip; which of them helps is the metric's business, and one placement is enough to see it.
CLIPPED_PLACEMENT = "weighted"


@dataclass(frozen=True)
class Candidate:
    """One way of deploying: number formats and nodes (the scheme), execution provider, session options."""

    scheme: "Scheme"
    provider: Provider
    session: SessionConfig

    @property
    def name(self) -> str:
        """Reads as what it is, such as ``static-u8s8-mse-weighted``."""
        return self.scheme.name


def candidates_for(target: Target, *, calibrated: bool) -> list[Candidate]:
    """Everything to try besides float32, in order.

    Args:
        target: Where it will run.
        calibrated: Whether there is calibration data, without which nothing static can be built.

    Raises:
        TargetError: The target names a flavour, method or placement that there is not.
    """
    from edgekit_export import METHODS, PLACEMENTS, DynamicInt8, StaticInt8

    schemes: list[Scheme] = [DynamicInt8(_flavour(name, target)) for name in target.dynamic]
    _check_names(target, "methods", target.methods, METHODS)
    _check_names(target, "placements", target.placements, PLACEMENTS)
    methods = [method for method in METHODS if method in target.methods]
    placements = [placement for placement in PLACEMENTS if placement in target.placements]
    for name in target.static if calibrated else ():
        flavour = _flavour(name, target)
        schemes += [StaticInt8(flavour, methods[0], placement) for placement in placements]
        clipped = CLIPPED_PLACEMENT if CLIPPED_PLACEMENT in placements else placements[0]
        schemes += [StaticInt8(flavour, method, clipped) for method in methods[1:]]
    return [Candidate(scheme, target.provider, SessionConfig()) for scheme in schemes]


def scheme_named(name: str) -> "Scheme":
    """The scheme of a candidate's name.

    Raises:
        TargetError: No scheme is called so.
    """
    from edgekit_export import FLAVOURS, METHODS, PLACEMENTS, DynamicInt8, Float32, StaticInt8

    if name == "float32":
        return Float32()
    kind, _, rest = name.partition("-")
    parts = rest.split("-")
    if kind == "dynamic" and len(parts) == 1 and parts[0] in FLAVOURS:
        return DynamicInt8(FLAVOURS[parts[0]])
    if kind == "static" and len(parts) == 3 and parts[0] in FLAVOURS:
        method = next((method for method in METHODS if method == parts[1]), None)
        placement = next((placement for placement in PLACEMENTS if placement == parts[2]), None)
        if method and placement:
            return StaticInt8(FLAVOURS[parts[0]], method, placement)
    raise TargetError(
        f"scheme {name!r}: expected float32, dynamic-FLAVOUR or static-FLAVOUR-METHOD-PLACEMENT with flavours "
        f"{', '.join(FLAVOURS)}, methods {', '.join(METHODS)} and placements {', '.join(PLACEMENTS)}"
    )


def _check_names(target: Target, field: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        found = f"unknown {unknown[0]!r}" if unknown else "none"
        raise TargetError(f"target {target.name}, {field}: {found}; there are {', '.join(known)}")


def _flavour(name: str, target: Target) -> "Flavour":
    from edgekit_export import FLAVOURS

    if name not in FLAVOURS:
        raise TargetError(f"target {target.name}: unknown flavour {name!r}; there are {', '.join(FLAVOURS)}")
    return FLAVOURS[name]
