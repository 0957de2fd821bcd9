"""Which kind of quantization a model file carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgekit.inspection.weights import StoredTensor, dtype_name
from edgekit.inspection.wiring import MOVEMENT, Wiring

if TYPE_CHECKING:
    import onnx

__all__ = ["QuantizationFound", "find_quantization", "is_integer_operator"]

DYNAMIC = frozenset(["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"])
# Integers in, sums or floats out: who quantized what they take says whether its range was measured in the call or before.
PRODUCTS = frozenset(["MatMulInteger", "ConvInteger", "MatMulIntegerToFloat"])
WEIGHT_ONLY = frozenset(["MatMulNBits", "MatMulBnb4", "GatherBlockQuantized", "QMoE"])
QOPERATOR = ("QLinear", "QGemm", "QAttention", "QEmbedLayerNorm", "QOrdered")

# Operators that take a weight as it is: the indices of the weight, of its scale (or its zero point where the scale has
# been multiplied into another value), and of the zero point of the activation.
WEIGHT_INPUTS: dict[str, list[tuple[int, int, int]]] = {
    "QLinearConv": [(3, 4, 2)],
    "QLinearMatMul": [(3, 4, 2)],
    "QGemm": [(3, 4, 2)],
    "MatMulInteger": [(1, 3, 2)],
    "ConvInteger": [(1, 3, 2)],
    "MatMulIntegerToFloat": [(1, 3, 4)],
    "DynamicQuantizeMatMul": [(1, 2, -1)],
    "DynamicQuantizeLSTM": [(1, 8, -1), (2, 10, -1)],
}
# Of a step's scale, how many dimensions there are when one value serves the whole tensor.
PER_TENSOR_DIMS = {"DynamicQuantizeLSTM": 1}


class QuantizationFound(msgspec.Struct, frozen=True):
    """What is quantized in a model file, and how.

    Attributes:
        kinds: Of ``qdq``, ``qoperator``, ``float-outputs`` (integer products of values with ranges known before, which give
            floats), ``dynamic`` (ranges measured in the call) and ``weight-only``; empty for a float model.
        weights_per_channel: Quantized weights with a scale for each channel.
        weights_per_tensor: Quantized weights with one scale.
        weights_per_block: Quantized weights with a scale for each block of values.
        weight_types: Quantized weights by dtype.
        activation_types: Quantized activations by dtype.
    """

    kinds: list[str] = []
    weights_per_channel: int = 0
    weights_per_tensor: int = 0
    weights_per_block: int = 0
    weight_types: dict[str, int] = {}
    activation_types: dict[str, int] = {}

    @property
    def any(self) -> bool:
        """Whether anything is quantized."""
        return bool(self.kinds)


def is_integer_operator(node: onnx.NodeProto) -> bool:
    """Whether a node computes in integers."""
    return node.op_type.startswith(QOPERATOR) or node.op_type in DYNAMIC or node.op_type in PRODUCTS


def find_quantization(wiring: Wiring) -> QuantizationFound:
    """Reads the quantization of a model from its operators."""
    tally = _Tally(wiring)
    for node in wiring.nodes:
        tally.see(node)
    order = ("qdq", "qoperator", "float-outputs", "dynamic", "weight-only")
    # A Q/DQ model also dequantizes its weights; that alone makes it weight-only, no more.
    kinds = tally.kinds - {"weight-only"} if "qdq" in tally.kinds and not tally.packed else tally.kinds
    return QuantizationFound(
        kinds=[kind for kind in order if kind in kinds],
        weights_per_channel=tally.granularity["channel"],
        weights_per_tensor=tally.granularity["tensor"],
        weights_per_block=tally.granularity["block"],
        weight_types=dict(sorted(tally.weight_types.items())),
        activation_types=dict(sorted(tally.activation_types.items())),
    )


class _Tally:
    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.kinds: set[str] = set()
        self.packed = False
        self.granularity = {"channel": 0, "tensor": 0, "block": 0}
        self.weight_types: dict[str, int] = {}
        self.activation_types: dict[str, int] = {}

    def see(self, node: onnx.NodeProto) -> None:
        """Adds what one node says."""
        if node.op_type == "QuantizeLinear":
            if self.wiring.stored_input(node, 0) is None:
                self.kinds.add("qdq")
                self._activation(_quantized_dtype(self.wiring, node))
        elif node.op_type == "DequantizeLinear":
            self._dequantized(node)
        elif node.op_type == "DynamicQuantizeLinear":
            self.kinds.add("dynamic")
            self._activation("uint8")
        elif node.op_type in WEIGHT_ONLY:
            self.kinds.add("weight-only")
            self.packed = True
            width = next((attribute.i for attribute in node.attribute if attribute.name == "bits"), 4)
            self._weight(f"int{width}", "block")
        elif is_integer_operator(node):
            self.kinds.add(_kind(self.wiring, node))
            self._integer_operator(node)

    def _dequantized(self, node: onnx.NodeProto) -> None:
        weight = _weight_behind(self.wiring, node)
        if weight is None:
            maker = self.wiring.makers.get(self.wiring.input_of(node, 0))
            if maker is None or not is_integer_operator(maker):
                self.kinds.add("qdq")
        elif weight.dtype != "int32":
            self.kinds.add("weight-only")
            scale = self.wiring.stored_input(node, 1)
            blocked = any(attribute.name == "block_size" and attribute.i for attribute in node.attribute)
            self._weight(weight.dtype, "block" if blocked else "channel" if scale and scale.elements > 1 else "tensor")

    def _integer_operator(self, node: onnx.NodeProto) -> None:
        for weight_index, step_index, zero_index in WEIGHT_INPUTS.get(node.op_type, []):
            weight = self.wiring.stored_input(node, weight_index)
            if weight is not None:
                step = self.wiring.stored_input(node, step_index)
                whole = PER_TENSOR_DIMS.get(node.op_type, 0)
                several = step is not None and (len(step.shape) > whole if whole else step.elements > 1)
                self._weight(weight.dtype, "channel" if several else "tensor")
            zero = self.wiring.stored_input(node, zero_index) if zero_index >= 0 else None
            if zero is not None and node.op_type.startswith(QOPERATOR):
                self._activation(zero.dtype)
            elif zero_index < 0:
                self._activation("uint8")

    def _weight(self, dtype: str, granularity: str) -> None:
        self.weight_types[dtype] = self.weight_types.get(dtype, 0) + 1
        self.granularity[granularity] += 1

    def _activation(self, dtype: str) -> None:
        self.activation_types[dtype] = self.activation_types.get(dtype, 0) + 1


def _kind(wiring: Wiring, node: onnx.NodeProto) -> str:
    """The kind of quantization that an integer operator stands for."""
    if node.op_type in DYNAMIC:
        return "dynamic"
    if node.op_type not in PRODUCTS:
        return "qoperator"
    maker = wiring.makers.get(wiring.input_of(node, 0))
    while maker is not None and maker.op_type in MOVEMENT:
        maker = wiring.makers.get(wiring.input_of(maker, 0))
    if maker is None:
        return "qoperator"  # the model takes integers
    return "dynamic" if maker.op_type in DYNAMIC else "float-outputs"


def _weight_behind(wiring: Wiring, node: onnx.NodeProto) -> StoredTensor | None:
    """The weight that a DequantizeLinear reads: stored as integers, or stored as float and quantized on the way."""
    stored = wiring.stored_input(node, 0)
    if stored is not None:
        return stored
    maker = wiring.makers.get(wiring.input_of(node, 0))
    if maker is None or maker.op_type != "QuantizeLinear":
        return None
    floating = wiring.stored_input(maker, 0)
    return None if floating is None else StoredTensor(floating.name, _quantized_dtype(wiring, maker), floating.shape, 0)


def _quantized_dtype(wiring: Wiring, node: onnx.NodeProto) -> str:
    """What a QuantizeLinear makes."""
    zero = wiring.stored_input(node, 2)
    if zero is not None:
        return zero.dtype
    asked = next((attribute.i for attribute in node.attribute if attribute.name == "output_dtype"), 0)
    return dtype_name(asked) if asked else "uint8"
