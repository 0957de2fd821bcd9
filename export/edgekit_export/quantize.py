"""Quantize: a prepared graph and a scheme give a graph that computes in 8 bits.

onnxruntime's quantizers insert the nodes; the ranges, the choice of nodes and the checks of the result are ours.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from edgekit_export.calibration import Histogram, Ranges, ranges_from
from edgekit_export.graph import Graph
from edgekit_export.passes import unshare_weights
from edgekit_export.placement import is_depthwise, place
from edgekit_export.quiet import quiet
from edgekit_export.schemes import FLAVOURS, DynamicInt8, Flavour, StaticInt8
from edgekit_export.weights import Weight, float_weights, weights
from edgekit_runtime.errors import QuantizationError

__all__ = ["Quantized", "quantize_dynamic", "quantize_static"]

TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
DYNAMIC_OPERATORS = ("MatMul", "Gemm", "LSTM")


@dataclass(frozen=True)
class Quantized:
    """A quantized graph.

    Attributes:
        graph: It.
        left_float: Weights that stayed float.
        notes: What a user should know, in sentences.
    """

    graph: Graph
    left_float: tuple[Weight, ...]
    notes: tuple[str, ...]

    @property
    def kind(self) -> str:
        """``int8`` where every weight is integer, ``mixed`` where some stayed float."""
        return "mixed" if self.left_float else "int8"


def quantize_dynamic(graph: Graph, scheme: DynamicInt8) -> Quantized:
    """Quantizes the weights of MatMul, Gemm and LSTM; activations are quantized while running.

    Raises:
        QuantizationError: There is no such weight, or onnxruntime's quantizer failed.
    """
    graph = unshare_weights(graph)
    wanted = [weight for weight in weights(graph) if weight.operator in DYNAMIC_OPERATORS]
    if not wanted:
        others = sorted({weight.operator for weight in weights(graph)}) or "none at all"
        raise QuantizationError(
            f"{scheme.name}: the graph has no MatMul, Gemm or LSTM with a constant weight, and onnxruntime quantizes nothing else "
            f"dynamically; its weights belong to {others}"
        )

    def insert(model: onnx.ModelProto) -> onnx.ModelProto:
        # onnxruntime's quantizer makes an LSTM's weights signed in any flavour: where that may not saturate, they get 7 bits.
        signed = scheme.flavour if scheme.flavour.weight == "s8" else FLAVOURS["u8s7"]
        return _dynamic(_dynamic(model, scheme.flavour, ["MatMul", "Gemm"]), signed, ["LSTM"])

    return _quantized(graph, scheme.name, insert, wanted)


def quantize_static(graph: Graph, scheme: StaticInt8, histograms: Mapping[str, Histogram]) -> Quantized:
    """Quantizes weights and activations of the placed nodes, with ranges from calibration.

    Args:
        graph: A prepared graph.
        scheme: Flavour, method and placement.
        histograms: What calibration saw of each tensor.

    Raises:
        QuantizationError: No node is placed, or onnxruntime's quantizer failed.
    """
    graph = unshare_weights(graph)
    ranges = ranges_from(histograms, scheme.method)
    names = place(graph, scheme.placement, ranges)
    if not names:
        raise QuantizationError(
            f"{scheme.name}: no node of the graph fits the placement {scheme.placement!r}; it has {graph.operators()}"
        )
    everything = [*QLinearOpsRegistry, *QDQRegistry]

    def insert(model: onnx.ModelProto) -> onnx.ModelProto:
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=scheme.flavour.reduced,
            weight_qType=TYPES[scheme.flavour.weight],
            activation_qType=TYPES[scheme.flavour.activation],
            tensors_range=_tensors_data(ranges),
            nodes_to_quantize=names,
            nodes_to_exclude=[],
            op_types_to_quantize=everything,
            extra_options={
                "ActivationSymmetric": scheme.flavour.activation == "s8",
                "MatMulConstBOnly": scheme.placement == "weighted",
                "TensorQuantOverrides": _depthwise_signed(graph) if scheme.flavour.weight == "u8" else {},
                **_weight_options(scheme.flavour),
            },
        )
        quantizer.quantize_model()
        return cast(onnx.ModelProto, quantizer.model.model)

    placed = set(names)
    return _quantized(graph, scheme.name, insert, [weight for weight in weights(graph) if weight.node in placed])


def _dynamic(model: onnx.ModelProto, flavour: Flavour, operators: list[str]) -> onnx.ModelProto:
    # The quantizer turns Gemm into MatMul and then trips over the shapes it left behind; it infers them anew.
    del model.graph.value_info[:]
    quantizer = ONNXQuantizer(
        model,
        per_channel=True,
        reduce_range=flavour.reduced,
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=TYPES[flavour.weight],
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=operators,
        # All weights here are float32, so what follows operators of other domains, whose types it cannot infer, is too.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT, **_weight_options(flavour)},
    )
    quantizer.quantize_model()
    return cast(onnx.ModelProto, quantizer.model.model)


def _weight_options(flavour: Flavour) -> dict[str, Any]:
    # Unsigned weights with one zero point, 128, for all channels: integer kernels take a single one.
    return {"WeightSymmetric": True} if flavour.weight == "u8" else {}


def _depthwise_signed(graph: Graph) -> dict[str, list[dict[str, Any]]]:
    """Depthwise weights stay signed in unsigned flavours.

    onnxruntime has no fast kernel for unsigned per-channel ones (ten times slower than float on x86), and its signed one sums
    single products in 32 bits, so that nothing saturates there.
    """
    return {
        str(node.inputs[1].name): [{"quant_type": QuantType.QInt8, "axis": 0, "symmetric": True}]
        for node in graph.model.graph
        if node.op_type == "Conv" and is_depthwise(node) and node.inputs[1] is not None
    }


def _tensors_data(ranges: Ranges) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.bounds.items()},
    )


def _quantized(
    graph: Graph, name: str, insert: Callable[[onnx.ModelProto], onnx.ModelProto], wanted: Sequence[Weight]
) -> Quantized:
    """Runs one of onnxruntime's quantizers on a copy, and checks what became of the weights."""
    _check_weights(wanted, name, graph)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "prepared.onnx"
        graph.save(path)
        try:
            with quiet():
                result = Graph(ir.from_proto(insert(onnx.load(path))), graph.changes)
        except MemoryError:
            raise
        except Exception as error:  # the quantizers raise whatever their innards do: ValueError, KeyError, AssertionError, …
            reason = " ".join(str(error).split())[:300]
            raise QuantizationError(f"{name}: onnxruntime's quantizer failed: {type(error).__name__}: {reason}") from error
    left = float_weights(graph, result)
    notes = []
    forgotten = [weight for weight in left if weight in wanted]
    if len(forgotten) == len(wanted):
        raise QuantizationError(
            f"{name}: onnxruntime's quantizer left all {len(wanted)} weights in float without a word; the operators are "
            f"{sorted({weight.operator for weight in forgotten})}"
        )
    if forgotten:
        notes.append(f"onnxruntime's quantizer left {_listed(forgotten)} in float, which the scheme asked for")
    if others := [weight for weight in left if weight not in wanted]:
        notes.append(f"in float, since the scheme does not take them: {_listed(others)}")
    return Quantized(result.noted("quantize", name), tuple(left), tuple(notes))


def _check_weights(wanted: Sequence[Weight], name: str, graph: Graph) -> None:
    if not wanted:
        raise QuantizationError(f"{name}: no node that it takes has a constant weight; the graph has {graph.operators()}")
    if others := sorted({weight.dtype for weight in wanted} - {"float32"}):
        raise QuantizationError(
            f"{name}: the weights are {' and '.join(others)}, and onnxruntime quantizes float32 only; export the model in float32"
        )


def _listed(weights: list[Weight]) -> str:
    shown = ", ".join(f"{weight.operator} {weight.node} ({weight.size_bytes / 1e3:.0f} kB)" for weight in weights[:3])
    return shown if len(weights) <= 3 else f"{shown} and {len(weights) - 3} more"
