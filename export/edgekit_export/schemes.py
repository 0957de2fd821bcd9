"""Schemes: the number formats that a candidate computes in.

A scheme's name reads as what it is, and `edgekit.scheme_names.scheme_named` reads it back; of nodes that are spared it
says only how many there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from edgekit_export.calibration.ranges import Method

__all__ = [
    "BLOCKS",
    "CORRECTIONS",
    "FLAVOURS",
    "PLACEMENTS",
    "AsTraced",
    "BFloat16",
    "Correction",
    "DynamicInt8",
    "Flavour",
    "Float16",
    "Float32",
    "Granularity",
    "Mixture",
    "Outputs",
    "Placement",
    "Scheme",
    "StaticInt8",
    "WeightOnly",
    "parts_of",
    "required_isa",
]

Placement = Literal["everything", "convnet", "linear", "weighted", "conv"]
"""Which nodes compute in integers; all others stay float.

- ``everything``: whatever onnxruntime's quantizer knows, as its defaults do.
- ``convnet``: Conv, ConvTranspose and what lies between them (activations, residual sums, pooling, gates), so that nothing goes
  through float on the way; attention and layer normalization stay float.
- ``linear``: Conv, ConvTranspose, Gemm, MatMul.
- ``weighted``: those of them that have a constant weight, so the products inside attention stay float.
- ``conv``: Conv and ConvTranspose.
"""
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)

Granularity = Literal["channel", "tensor"]
"""Whether a weight has a scale for each output channel, or one."""

Outputs = Literal["integer", "float"]
"""What placed nodes give.

- ``integer``: integers, which the next placed node reads as they are: what onnxruntime's CPU provider wants of convolutions.
- ``float``: float; only what convolutions, products and sums *read* is rounded. OpenVINO fuses a convolution with the activations
  behind it and with the rounding before the next one, and onnxruntime's CPU provider runs such products in one kernel.
"""

Correction = Literal["equalized", "smoothed", "rounded", "debiased"]
"""What is done against quantization's error, in the order in which it is done.

- ``equalized``: scales are moved between the channels of neighbouring layers, so that weights of one layer are of like size.
- ``smoothed``: scales are moved from activations with outlying channels into the weights behind them.
- ``rounded``: each weight is rounded up or down so that the layer's output, not the weight itself, is nearest to float's.
- ``debiased``: the mean error of each output channel is taken off its bias.
"""
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)

Block = Literal[16, 32, 64, 128, 256]
BLOCKS: tuple[Block, ...] = get_args(Block)


@dataclass(frozen=True)
class Flavour:
    """A pair of integer types.

    Attributes:
        name: Such as ``u8s8``; activations first, then weights.
        activation: Type of activations.
        weight: Type of weights, one scale per output channel.
        reduced: Weights use 7 of their 8 bits, so that sums of two products fit 16 bits.
    """

    name: str
    activation: Literal["u8", "s8", "u16", "s16"]
    weight: Literal["u8", "s8"]
    reduced: bool = False

    @property
    def wide(self) -> bool:
        """Whether activations have 16 bits: for Qualcomm's HTP; onnxruntime's CPU provider computes such graphs in float."""
        return self.activation in ("u16", "s16")


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("u8s8", "u8", "s8"),
        Flavour("u8s7", "u8", "s8", reduced=True),
        Flavour("u8u8", "u8", "u8"),
        Flavour("s8s8", "s8", "s8"),
        Flavour("s8s7", "s8", "s8", reduced=True),
        Flavour("u16s8", "u16", "s8"),
        Flavour("s16s8", "s16", "s8"),
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
class Float16:
    """16-bit IEEE float; inputs and outputs stay float32.

    Attributes:
        stored: Only weights are, and are widened when the model is opened: half the file, and float32's speed and memory.
            Otherwise everything computes in float16 that may.
    """

    stored: bool = False

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return "float16-stored" if self.stored else "float16"


@dataclass(frozen=True)
class BFloat16:
    """The upper half of a float32; inputs and outputs stay float32.

    Attributes:
        stored: As in `Float16`.
    """

    stored: bool = False

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return "bfloat16-stored" if self.stored else "bfloat16"


@dataclass(frozen=True)
class DynamicInt8:
    """Weights in 8 bits per channel; each activation's range is found while running. MatMul, Gemm and LSTM only.

    Convolutions are never among them: onnxruntime runs them eight to ten times slower than float in this form.

    Attributes:
        flavour: The types; activations are always unsigned 8-bit, which is all that onnxruntime has.
        tables: Whether embedding tables are stored in 8 bits, too.
        spared: Names of nodes that stay float all the same.
    """

    flavour: Flavour
    tables: bool = True
    spared: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the candidate; of the spared nodes it says how many."""
        return "-".join(["dynamic", self.flavour.name, *_ending(self)])


@dataclass(frozen=True)
class StaticInt8:
    """Weights in integers, activations in integers with ranges from calibration.

    Attributes:
        flavour: The types.
        method: How ranges come from histograms.
        placement: Which nodes compute in integers.
        granularity: One scale for each output channel of a weight, or for the whole of it.
        corrections: What is done against quantization's error; the order does not matter.
        tables: Whether embedding tables are stored in 8 bits, too.
        spared: Names of nodes that stay float although they are placed.
        outputs: What placed nodes give.
    """

    flavour: Flavour
    method: Method
    placement: Placement
    granularity: Granularity = "channel"
    corrections: tuple[Correction, ...] = ()
    spared: tuple[str, ...] = ()
    tables: bool = True
    outputs: Outputs = "integer"

    @property
    def name(self) -> str:
        """Name of the candidate; of the spared nodes it says how many."""
        tokens = ["static", self.flavour.name, self.method, self.placement]
        tokens += ["tensor"] if self.granularity == "tensor" else []
        tokens += ["floatoutputs"] if self.outputs == "float" else []
        tokens += [correction for correction in CORRECTIONS if correction in self.corrections]
        return "-".join([*tokens, *_ending(self)])


@dataclass(frozen=True)
class WeightOnly:
    """MatMul and Gemm with weights in blocks of few bits (`MatMulNBits`): small, and fast where reading weights takes the time.

    Attributes:
        bits: Of each weight.
        block: How many weights of one output share a scale.
        symmetric: Whether a block has a scale alone, or a zero point as well.
        accuracy_level: What onnxruntime computes in: 4, activations rounded to 8-bit integers per block; 1, float32.
        tables: Whether embedding tables are stored in 8 bits, too.
        spared: Names of nodes that stay float all the same.
    """

    bits: Literal[4, 8] = 4
    block: Block = 32
    symmetric: bool = True
    accuracy_level: Literal[1, 4] = 4
    tables: bool = True
    spared: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the candidate; of the spared nodes it says how many."""
        tokens = ["weights", f"int{self.bits}", f"b{self.block}"]
        tokens += [] if self.symmetric else ["asymmetric"]
        tokens += [] if self.accuracy_level == 4 else [f"level{self.accuracy_level}"]
        return "-".join([*tokens, *_ending(self)])


@dataclass(frozen=True)
class Mixture:
    """Several schemes in one graph: each takes what those before it left in float.

    A static part comes first, since it is calibrated on the float graph; float16 and bfloat16 come last, since they leave nothing.
    """

    parts: "tuple[Part, ...]"

    @property
    def name(self) -> str:
        """Name of the candidate: those of its parts."""
        return "+".join(part.name for part in self.parts)


@dataclass(frozen=True)
class AsTraced:
    """Another module than the recipe's own, in whatever formats its graph came: trained with fake quantization, pruned, distilled.

    Attributes:
        label: What the recipe calls it.
        saturates: Whether its graph has signed weights that use all of their 8 bits.
    """

    label: str
    saturates: bool = False

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return self.label


Part = DynamicInt8 | StaticInt8 | WeightOnly | Float16 | BFloat16
Scheme = Float32 | Part | Mixture | AsTraced


def parts_of(scheme: Scheme) -> Iterator[Part]:
    """The schemes that a scheme is made of; none for float32, and for a graph that is quantized as it came."""
    if isinstance(scheme, Mixture):
        yield from scheme.parts
    elif not isinstance(scheme, (Float32, AsTraced)):
        yield scheme


def required_isa(scheme: Scheme) -> dict[str, list[str]]:
    """Instruction sets without which a scheme computes something else, by architecture.

    On x86 without VNNI, products with full 8-bit signed weights are summed in pairs in 16 bits and saturate; reduced or unsigned
    weights do not (onnxruntime's quantization guide, "When to use reduce-range"). Signed activations do not help: onnxruntime
    shifts them to unsigned there. `edgekit doctor` shows both on the processor at hand. 16-bit activations are computed in
    float, and onnxruntime's kernels for weights in blocks do not saturate anywhere.
    """
    flavours = [part.flavour for part in parts_of(scheme) if isinstance(part, (DynamicInt8, StaticInt8))]
    traced = isinstance(scheme, AsTraced) and scheme.saturates
    saturates = traced or any(flavour.weight == "s8" and not flavour.reduced and not flavour.wide for flavour in flavours)
    return {"x86_64": ["vnni"]} if saturates else {}


def _ending(scheme: DynamicInt8 | StaticInt8 | WeightOnly) -> list[str]:
    """What the names of all integer schemes end in."""
    return [*([] if scheme.tables else ["floattables"]), *([f"spared{len(scheme.spared)}"] if scheme.spared else [])]
