"""Schemes: the number formats that a candidate computes in."""

from dataclasses import dataclass
from typing import Literal, get_args

from edgekit_export.calibration.ranges import Method

__all__ = ["FLAVOURS", "PLACEMENTS", "DynamicInt8", "Flavour", "Float32", "Placement", "Scheme", "StaticInt8", "required_isa"]

Placement = Literal["everything", "linear", "weighted", "conv"]
"""Which nodes compute in integers; all others stay float.

- ``everything``: whatever onnxruntime's quantizer knows, as its defaults do.
- ``linear``: Conv, ConvTranspose, Gemm, MatMul.
- ``weighted``: those of them that have a constant weight, so the products inside attention stay float.
- ``conv``: Conv and ConvTranspose.
"""
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


@dataclass(frozen=True)
class Flavour:
    """A pair of 8-bit types.

    Attributes:
        name: Such as ``u8s8``; activations first, then weights.
        activation: Type of activations.
        weight: Type of weights, one scale per output channel.
        reduced: Weights use 7 of their 8 bits, so that sums of two products fit 16 bits.
    """

    name: str
    activation: Literal["u8", "s8"]
    weight: Literal["u8", "s8"]
    reduced: bool = False


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("u8s8", "u8", "s8"),
        Flavour("u8s7", "u8", "s8", reduced=True),
        Flavour("u8u8", "u8", "u8"),
        Flavour("s8s8", "s8", "s8"),
    )
}


@dataclass(frozen=True)
class Float32:
    """32-bit float, as traced, with onnxruntime's optimizations done offline."""

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return "float32"


@dataclass(frozen=True)
class DynamicInt8:
    """Weights in 8 bits per channel; each activation's range is found while running. MatMul, Gemm and LSTM only.

    Convolutions are never among them: onnxruntime runs them eight to ten times slower than float in this form.
    """

    flavour: Flavour

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return f"dynamic-{self.flavour.name}"


@dataclass(frozen=True)
class StaticInt8:
    """Weights in 8 bits per channel, activations in 8 bits with ranges from calibration."""

    flavour: Flavour
    method: Method
    placement: Placement

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return f"static-{self.flavour.name}-{self.method}-{self.placement}"


Scheme = Float32 | DynamicInt8 | StaticInt8


def required_isa(scheme: Scheme) -> dict[str, list[str]]:
    """Instruction sets without which a scheme computes something else, by architecture.

    On x86 without VNNI, products with full 8-bit signed weights are summed in pairs in 16 bits and saturate; reduced or unsigned
    weights do not (onnxruntime's quantization guide, "When to use reduce-range"). Signed activations do not help: onnxruntime
    shifts them to unsigned there. `edgekit doctor` shows both on the processor at hand.
    """
    flavour = None if isinstance(scheme, Float32) else scheme.flavour
    saturates = flavour is not None and flavour.weight == "s8" and not flavour.reduced
    return {"x86_64": ["vnni"]} if saturates else {}
