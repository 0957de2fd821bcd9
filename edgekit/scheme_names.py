"""Names of schemes, and schemes of names."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit_runtime.errors import QuantizationError, TargetError

if TYPE_CHECKING:
    from edgekit_export.schemes import Part, Scheme, StaticInt8, WeightOnly

__all__ = ["grammar", "scheme_named", "sparing"]

SHAPES = (
    "float32",
    "dynamic-FLAVOUR",
    "static-FLAVOUR-METHOD-PLACEMENT[-tensor][-floatoutputs][-CORRECTION…], corrections in their order",
    "weights-int8-bBLOCK or weights-int4-bBLOCK, [-asymmetric][-level1]",
    "float16[-stored] and bfloat16[-stored]",
    "any integer scheme with -floattables at its end, which keeps embedding tables in float",
    "several of them joined by +, where each takes what those before it left in float",
)


def grammar() -> list[str]:
    """How schemes are called, line by line."""
    from edgekit_export import METHODS
    from edgekit_export.schemes import BLOCKS, CORRECTIONS, FLAVOURS, PLACEMENTS

    return [
        *SHAPES,
        f"FLAVOUR: {', '.join(FLAVOURS)}",
        f"METHOD: {', '.join(METHODS)}",
        f"PLACEMENT: {', '.join(PLACEMENTS)}",
        f"CORRECTION: {', '.join(CORRECTIONS)}",
        f"BLOCK: {', '.join(map(str, BLOCKS))}",
    ]


def scheme_named(name: str) -> "Scheme":
    """The scheme of a candidate's name; names do not tell which nodes are spared, see `sparing`.

    Raises:
        TargetError: No scheme is called so.
    """
    from edgekit_export import Float32, Mixture
    from edgekit_export.mixture import check_mixture

    if name == "float32":
        return Float32()
    parts: list[Part] = []
    for one in name.split("+"):
        part = _part(one)
        if part is None:
            where = f" in {name!r}" if "+" in name else ""
            raise TargetError(f"scheme {one!r}{where}: there is none of that name; there are {'; '.join(grammar())}")
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    mixture = Mixture(tuple(parts))
    try:
        check_mixture(mixture)
    except QuantizationError as error:
        raise TargetError(f"scheme {error}") from error
    return mixture


def sparing(scheme: "Scheme", nodes: Sequence[str]) -> "Scheme":
    """The scheme with some nodes left in float, in all of its parts.

    Raises:
        TargetError: A part of it has no way of leaving nodes out.
    """
    from edgekit_export import BFloat16, Float16, Mixture
    from edgekit_export.schemes import parts_of

    if not nodes:
        return scheme
    parts = list(parts_of(scheme))
    if not parts or any(isinstance(part, (Float16, BFloat16)) for part in parts):
        raise TargetError(
            f"spare {', '.join(nodes)} in {scheme.name}: only dynamic, static and weights schemes leave some nodes out"
        )
    changed = [replace(part, spared=tuple(dict.fromkeys(nodes))) for part in parts if not isinstance(part, (Float16, BFloat16))]
    return Mixture(tuple(changed)) if isinstance(scheme, Mixture) else changed[0]


def _part(name: str) -> "Part | None":
    """The scheme of that name, if it is one scheme's; it is parsed by building what it seems to say and comparing names."""
    from edgekit_export import BFloat16, DynamicInt8, Float16
    from edgekit_export.schemes import FLAVOURS

    kind, *tokens = name.split("-")
    tables = "floattables" not in tokens
    part: Part | None = None
    if kind == "float16":
        part = Float16(stored="stored" in tokens)
    elif kind == "bfloat16":
        part = BFloat16(stored="stored" in tokens)
    elif kind == "weights":
        part = _weights(tokens, tables=tables)
    elif kind == "dynamic" and tokens and tokens[0] in FLAVOURS:
        part = DynamicInt8(FLAVOURS[tokens[0]], tables=tables)
    elif kind == "static":
        part = _static(tokens, tables=tables)
    return part if part is not None and part.name == name else None


def _static(tokens: Sequence[str], *, tables: bool) -> "StaticInt8 | None":
    from edgekit_export import METHODS, StaticInt8
    from edgekit_export.schemes import CORRECTIONS, FLAVOURS, PLACEMENTS

    if len(tokens) < 3:
        return None
    flavour = FLAVOURS.get(tokens[0])
    method = next((method for method in METHODS if method == tokens[1]), None)
    placement = next((placement for placement in PLACEMENTS if placement == tokens[2]), None)
    if flavour is None or method is None or placement is None:
        return None
    return StaticInt8(
        flavour,
        method,
        placement,
        granularity="tensor" if "tensor" in tokens else "channel",
        corrections=tuple(correction for correction in CORRECTIONS if correction in tokens),
        tables=tables,
        outputs="float" if "floatoutputs" in tokens else "integer",
    )


def _weights(tokens: Sequence[str], *, tables: bool) -> "WeightOnly | None":
    from edgekit_export import WeightOnly
    from edgekit_export.schemes import BLOCKS

    block = next((block for block in BLOCKS if f"b{block}" in tokens), None)
    if block is None:
        return None
    return WeightOnly(
        bits=8 if "int8" in tokens else 4,
        block=block,
        symmetric="asymmetric" not in tokens,
        accuracy_level=1 if "level1" in tokens else 4,
        tables=tables,
    )
