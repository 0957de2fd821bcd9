"""Candidates: the ways of deploying that suit a target."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit.providers import label
from edgekit.scheme_names import scheme_named
from edgekit.target import Target
from edgekit.verdict.tried import Optimize
from edgekit_runtime.errors import TargetError
from edgekit_runtime.session import KEEP_FLOAT_WEIGHTS, Provider, SessionConfig

if TYPE_CHECKING:
    from edgekit_export import Flavour, Scheme, StaticInt8
    from edgekit_export.schemes import Correction, Placement

__all__ = [
    "Candidate",
    "candidates_for",
    "first_and_later",
    "of_other_flavour",
    "scheme_named",
    "session_for",
    "static_part",
    "static_scheme",
    "with_static_part",
]

# The other methods clip; which of them helps is the metric's business, and one placement is enough to see it.
CLIPPED_PLACEMENT = "weighted"
# What corrections are tried with, of those that the target has: one is for networks of convolutions, one for others.
CORRECTED_PLACEMENTS: "tuple[Placement, ...]" = ("convnet", "weighted")
# What the static part of a mixture takes; the first that the target has.
MIXED_PLACEMENTS: "tuple[Placement, ...]" = ("convnet", "conv")


@dataclass(frozen=True)
class Candidate:
    """One way of deploying: number formats and nodes (the scheme), execution provider, session options."""

    scheme: "Scheme"
    provider: Provider
    session: SessionConfig

    @property
    def name(self) -> str:
        """Reads as what it is, such as ``static-u8s8-mse-weighted``, ``float32-1thread`` or ``float32@openvino``."""
        name = "-".join([self.scheme.name, *_session_words(self.session)])
        return f"{name}@{where}" if (where := label(self.provider)) else name


def candidates_for(target: Target, *, calibrated: bool, optimize: Optimize = "latency", corrected: bool = True) -> list[Candidate]:
    """Everything to try besides float32, in order; what a graph has no use for is left out when it is built.

    Args:
        target: Where it will run.
        calibrated: Whether there is calibration data, without which nothing static can be built.
        corrected: Whether corrections are tried with every placement that they are for; a search tries them where they are needed.
        optimize: What is to be gained. For size alone, formats are tried that only store weights in fewer bits.

    Raises:
        TargetError: The target names a flavour, method, placement, correction or format that there is not.
    """
    from edgekit_export import METHODS, PLACEMENTS, DynamicInt8, Mixture, StaticInt8

    _check_names(target, "methods", target.methods, METHODS)
    _check_names(target, "placements", target.placements, PLACEMENTS)
    methods = [method for method in METHODS if method in target.methods]
    placements = [placement for placement in PLACEMENTS if placement in target.placements]
    dynamic = [DynamicInt8(_flavour(name, target)) for name in target.dynamic]
    static: list[StaticInt8] = []
    for name in target.static if calibrated else ():
        flavour = _flavour(name, target)
        static += [StaticInt8(flavour, methods[0], placement) for placement in placements]
        clipped = CLIPPED_PLACEMENT if CLIPPED_PLACEMENT in placements else placements[0]
        # 16 bits have steps to spare: nothing is won by clipping.
        static += [StaticInt8(flavour, method, clipped) for method in methods[1:] if not flavour.wide]
    schemes: list[Scheme] = [*dynamic, *static]
    if static:
        # Of the target's best flavour only: what they do to another's accuracy is much the same.
        schemes += [
            replace(static[0], placement=placement, corrections=_corrections(names, target))
            for names in (target.corrections if corrected else ())
            for placement in placements
            if placement in CORRECTED_PLACEMENTS
        ]
        convolutions = next((placement for placement in MIXED_PLACEMENTS if placement in placements), None)
        if convolutions and dynamic:
            schemes.append(Mixture((replace(static[0], placement=convolutions), dynamic[0])))
    schemes += _narrow(target, optimize)
    return [Candidate(scheme, target.provider, session_for(scheme)) for scheme in schemes]


def static_scheme(candidate: Candidate) -> "StaticInt8":
    """The scheme of a candidate that is known to be static."""
    from edgekit_export import StaticInt8

    assert isinstance(candidate.scheme, StaticInt8)  # whoever asks has looked
    return candidate.scheme


def static_part(candidate: Candidate) -> "StaticInt8 | None":
    """A candidate's static scheme: its own, or the one that its mixture begins with; ``None`` where it has none."""
    from edgekit_export import StaticInt8
    from edgekit_export.schemes import parts_of

    first = next(parts_of(candidate.scheme), None)
    return first if isinstance(first, StaticInt8) else None


def with_static_part(candidate: Candidate, scheme: "StaticInt8") -> Candidate:
    """The candidate with another static scheme in the place of its own."""
    from edgekit_export import Mixture

    if isinstance(candidate.scheme, Mixture):
        return replace(candidate, scheme=Mixture((scheme, *candidate.scheme.parts[1:])))
    return replace(candidate, scheme=scheme)


def first_and_later(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Those with the target's first flavour and first calibration method, with which a search begins, and all others."""
    from edgekit_export import DynamicInt8, StaticInt8

    static = next((one.scheme for one in candidates if isinstance(one.scheme, StaticInt8)), None)
    dynamic = next((one.scheme for one in candidates if isinstance(one.scheme, DynamicInt8)), None)

    def is_first(scheme: "Scheme") -> bool:
        if isinstance(scheme, StaticInt8) and static is not None:
            return (scheme.flavour, scheme.method) == (static.flavour, static.method)
        return scheme == dynamic if isinstance(scheme, DynamicInt8) else True

    return [one for one in candidates if is_first(one.scheme)], [one for one in candidates if not is_first(one.scheme)]


def of_other_flavour(candidate: Candidate, first: Sequence[Candidate], placements: "Collection[Placement]") -> bool:
    """Whether a candidate has another flavour than those of `first`, and one of `placements` where it is static.

    What a flavour wins hardly depends on the placement, so it is tried with those that were best.
    """
    from edgekit_export import DynamicInt8, StaticInt8

    known = [one.scheme.method for one in first if isinstance(one.scheme, StaticInt8)]
    scheme = candidate.scheme
    return isinstance(scheme, DynamicInt8) or (
        isinstance(scheme, StaticInt8) and scheme.placement in placements and scheme.method in known
    )


def _session_words(session: SessionConfig) -> list[str]:
    """Session options in words, as names of candidates tell them; the defaults' are none."""
    plain = SessionConfig()
    words = [] if session.threads is None else [f"{session.threads}thread{'s' if session.threads > 1 else ''}"]
    words += [] if session.spinning else ["nospin"]
    words += [] if session.memory_arena else ["noarena"]
    words += [] if session.blocked_layout else ["plainlayout"]
    return words + ([] if session.graph_optimization == plain.graph_optimization else [session.graph_optimization])


def session_for(scheme: "Scheme") -> SessionConfig:
    """Session options that a scheme needs: also those that edgekit's runtime sets anyway, for bundles that others open."""
    from edgekit_export.schemes import StaticInt8, parts_of

    static = any(isinstance(part, StaticInt8) for part in parts_of(scheme))
    return SessionConfig(entries=dict(KEEP_FLOAT_WEIGHTS) if static else {})


def _narrow(target: Target, optimize: str) -> "list[Scheme]":
    """Formats of few bits that compute in float, or nearly so."""
    weights = [_named(f"weights-{name}", "weights", target) for name in target.weights]
    half = [_named(name, "half", target) for name in target.half]
    if optimize != "latency":
        return [*weights, *half]
    # What is stored only gains no time, and of weights in blocks the first is the target's fastest.
    return [*weights[:1], *(scheme for scheme in half if not scheme.name.endswith("-stored"))]


def _check_names(target: Target, field: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        found = f"unknown {unknown[0]!r}" if unknown else "none"
        raise TargetError(f"target {target.name}, {field}: {found}; there are {', '.join(known)}")


def _corrections(names: str, target: Target) -> "tuple[Correction, ...]":
    from edgekit_export import CORRECTIONS

    found = tuple(correction for correction in CORRECTIONS if correction in names.split("-"))
    if "-".join(found) != names:
        raise TargetError(
            f"target {target.name}, corrections: unknown {names!r}; there are {', '.join(CORRECTIONS)}, joined by - in this order"
        )
    return found


def _named(name: str, field: str, target: Target) -> "Scheme":
    from edgekit_export import BFloat16, Float16, WeightOnly

    try:
        scheme = scheme_named(name)
    except TargetError as error:
        raise TargetError(f"target {target.name}, {field}: {error}") from error
    if not isinstance(scheme, WeightOnly if field == "weights" else (Float16, BFloat16)):
        raise TargetError(f"target {target.name}, {field}: {name!r} does not belong there")
    return scheme


def _flavour(name: str, target: Target) -> "Flavour":
    from edgekit_export import FLAVOURS

    if name not in FLAVOURS:
        raise TargetError(f"target {target.name}: unknown flavour {name!r}; there are {', '.join(FLAVOURS)}")
    return FLAVOURS[name]
