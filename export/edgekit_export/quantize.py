"""Quantize: a prepared graph and a scheme give a graph that computes in 8 bits.

onnxruntime's quantizers insert the nodes; the ranges, the choice of nodes and the checks of the result are ours.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from edgekit_export.calibration import Histogram, Ranges, ranges_from
from edgekit_export.correcting import debiased, rescaled, rounded
from edgekit_export.embeddings import integer_tables
from edgekit_export.graph import Graph
from edgekit_export.passes import (
    batchnorm_as_convolution,
    bias_into_products,
    fuse_self_attention,
    fuse_transformer,
    name_nodes,
    read_before_rounding,
    remove_redundant_qdq,
    separate_residuals,
    split_outlier_inputs,
    unroll_gru_steps,
    unshare_weights,
)
from edgekit_export.placement import CLAMPS, READERS, is_depthwise, place
from edgekit_export.quantized import Quantized, check_names, check_weights, judged, through_quantizer
from edgekit_export.recurrent import recurrent_to_spare
from edgekit_export.rewrites import OPERATORS, integer_activations
from edgekit_export.schemes import FLAVOURS, DynamicInt8, Flavour, StaticInt8, WeightOnly
from edgekit_export.weight_only import product_weights, weights_in_blocks
from edgekit_export.weights import Weight, weights
from edgekit_runtime.errors import QuantizationError

__all__ = ["Quantized", "quantize_dynamic", "quantize_static", "quantize_weights"]

TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8, "u16": QuantType.QUInt16, "s16": QuantType.QInt16}
FUSION_FEEDS = 2
DYNAMIC_OPERATORS = ("MatMul", "Gemm", "LSTM", "Attention")


def quantize_dynamic(graph: Graph, scheme: DynamicInt8, *, sample: Sequence[Mapping[str, np.ndarray]] = ()) -> Quantized:
    """Quantizes the weights of MatMul, Gemm, LSTM and attention; activations are quantized while running.

    LSTMs that 8 bits would wreck stay float, with a note that says so.

    Args:
        graph: A prepared graph.
        scheme: The flavour.
        sample: A few feeds, to compare a graph with fused attention with the one it came from; without one nothing is fused.

    Raises:
        QuantizationError: There is no such weight, or onnxruntime's quantizer failed.
    """
    graph = unshare_weights(graph)
    check_names(graph, scheme.spared, scheme.name)
    graph = unroll_gru_steps(split_outlier_inputs(graph))
    if sample and not scheme.spared:  # names to spare are those of the graph before it is fused
        graph = fuse_transformer(fuse_self_attention(graph), sample[:FUSION_FEEDS])
    graph = name_nodes(graph)
    wrecked = recurrent_to_spare(graph, _recurrent_flavour(scheme.flavour))
    spared = (*scheme.spared, *wrecked)
    wanted = [weight for weight in weights(graph) if weight.operator in DYNAMIC_OPERATORS and weight.node not in spared]
    if not wanted:
        others = sorted({weight.operator for weight in weights(graph)}) or "none at all"
        raise QuantizationError(
            f"{scheme.name}: the graph has no MatMul, Gemm or LSTM with a constant weight, and onnxruntime quantizes nothing else "
            f"dynamically; its weights belong to {others}{''.join(f'; {reason}' for reason in wrecked.values())}"
        )
    check_weights(wanted, scheme.name, graph)

    def insert(model: onnx.ModelProto) -> onnx.ModelProto:
        products = _dynamic(model, scheme.flavour, ["MatMul", "Gemm", "Attention"], spared)
        return _dynamic(products, _recurrent_flavour(scheme.flavour), ["LSTM"], spared)

    quantized = _with_tables(graph, through_quantizer(graph, scheme.name, insert), scheme, wanted, list(wrecked.values()))
    return replace(quantized, graph=separate_residuals(quantized.graph))


def _recurrent_flavour(flavour: Flavour) -> Flavour:
    """What LSTMs get: the quantizer makes their weights signed in any flavour; where that may saturate, they have 7 bits."""
    return flavour if flavour.weight == "s8" else FLAVOURS["u8s7"]


def quantize_static(
    graph: Graph,
    scheme: StaticInt8,
    histograms: Mapping[str, Histogram],
    *,
    sample: Sequence[Mapping[str, np.ndarray]] = (),
    only: Collection[str] | None = None,
    rewritten: bool = True,
) -> Quantized:
    """Quantizes weights and activations of the placed nodes, with ranges from calibration.

    Args:
        graph: A prepared graph.
        scheme: Flavour, method and placement.
        histograms: What calibration saw of each tensor.
        sample: A few calibration feeds, which corrections look at.
        only: Names of the nodes to quantize, of those that the scheme places; all of them where it is ``None``.
        rewritten: Write activations in integers; without, all nodes of the graph are there as they were.

    Raises:
        QuantizationError: No node is placed, a name to spare or to take is none of the graph's, or onnxruntime's quantizer failed.
    """
    graph = batchnorm_as_convolution(unshare_weights(graph))
    check_names(graph, (*scheme.spared, *(only or ())), scheme.name)
    corrected = rescaled(graph, scheme, histograms, sample)
    ranges = ranges_from(corrected.histograms, scheme.method)
    placed = place(corrected.graph, scheme.placement, ranges, outputs=scheme.outputs)
    names = _chosen(corrected.graph, scheme, placed, only)
    graph = rounded(corrected.graph, scheme, names, sample)
    wanted = [weight for weight in weights(graph) if weight.node in set(names) and weight.operator != "Gather"]
    check_weights(wanted, scheme.name, graph)
    everything = [*QLinearOpsRegistry, *QDQRegistry, *OPERATORS]

    def insert(model: onnx.ModelProto) -> onnx.ModelProto:
        quantizer = QDQQuantizer(
            model,
            per_channel=scheme.granularity == "channel",
            reduce_range=scheme.flavour.reduced,
            weight_qType=TYPES[scheme.flavour.weight],
            activation_qType=TYPES[scheme.flavour.activation],
            tensors_range=_tensors_data(ranges),
            nodes_to_quantize=names,
            nodes_to_exclude=[],
            op_types_to_quantize=everything,
            extra_options={
                # With a zero point, what a ReLU gives takes all 256 steps, and its lower end is the lowest integer, so that the
                # ReLU itself is fused away; symmetric 8-bit activations keep every ReLU in float, on ARM too.
                "ActivationSymmetric": scheme.flavour.activation == "s16",
                "MatMulConstBOnly": scheme.placement == "weighted",
                "OpTypesToExcludeOutputQuantization": sorted(READERS) if scheme.outputs == "float" else [],
                "TensorQuantOverrides": _depthwise_signed(graph, scheme) if scheme.flavour.weight == "u8" else {},
                **_weight_options(scheme.flavour),
            },
        )
        quantizer.quantize_model()
        return cast(onnx.ModelProto, quantizer.model.model)

    notes = list(corrected.notes)
    if scheme.flavour.wide:
        notes.append(
            "onnxruntime's CPU provider has no kernels for 16-bit activations and computes this graph in float; it is for "
            "providers that do, such as Qualcomm's"
        )
    quantized = through_quantizer(graph, scheme.name, insert)
    if scheme.outputs == "float":
        quantized = read_before_rounding(quantized, names)
    if rewritten:
        quantized = separate_residuals(remove_redundant_qdq(integer_activations(quantized)))
    # Against the float weights, and not against those that were rounded for the quantizer.
    quantized = debiased(corrected.graph, quantized, scheme, sample)
    if rewritten and scheme.outputs == "float":
        quantized = bias_into_products(quantized)
    return _with_tables(graph, quantized, scheme, wanted, notes, only)


def quantize_weights(graph: Graph, scheme: WeightOnly) -> Quantized:
    """MatMul and Gemm with a constant matrix on the right get weights in blocks; activations stay as they are.

    Raises:
        QuantizationError: There is no such weight, or it is not float32.
    """
    graph = unshare_weights(graph)
    check_names(graph, scheme.spared, scheme.name)
    wanted = [weight for weight in product_weights(graph) if weight.node not in scheme.spared]
    if not wanted:
        raise QuantizationError(
            f"{scheme.name}: the graph has no MatMul or Gemm with a constant matrix on its right to quantize; its weights belong "
            f"to {sorted({weight.operator for weight in weights(graph)}) or 'none at all'}"
        )
    check_weights(wanted, scheme.name, graph)
    after = weights_in_blocks(graph, scheme, [weight.node for weight in wanted])
    return _with_tables(graph, after, scheme, wanted, kind=f"int{scheme.bits}")


def _with_tables(
    before: Graph,
    after: Graph,
    scheme: DynamicInt8 | StaticInt8 | WeightOnly,
    wanted: Sequence[Weight],
    notes: Sequence[str] = (),
    only: Collection[str] | None = None,
    kind: str = "int8",
) -> Quantized:
    """The result with its embedding tables in 8 bits, and what became of the weights."""
    said = list(notes)
    if scheme.tables:
        tables = integer_tables(after, spared=scheme.spared, only=only)
        after = tables.graph
        said += [
            f"in float: the embedding table {name}, of which 8 bits a row would leave only {decibels:.0f} dB SQNR"
            for name, decibels in tables.kept.items()
        ]
    return judged(before, after, scheme.name, wanted, said, kind)


def _chosen(graph: Graph, scheme: StaticInt8, placed: Sequence[str], only: Collection[str] | None) -> list[str]:
    """Of the placed nodes those that are not spared, and of these those asked for; a clamp goes with the node before it."""
    if not placed:
        raise QuantizationError(
            f"{scheme.name}: no node of the graph fits the placement {scheme.placement!r}; it has {graph.operators()}"
        )
    nodes = {str(node.name): node for node in graph.model.graph}
    free = set(placed) - set(scheme.spared)
    asked = free if only is None else free & set(only)
    for name in placed:
        # Quantization itself clamps: a ReLU's range is that of the convolution before it, so both are integer or neither is.
        value = nodes[name].inputs[0] if nodes[name].op_type in CLAMPS else None
        before = str(producer.name) if value is not None and (producer := value.producer()) is not None else None
        if before in asked and name in free:
            asked = asked | {name}
        elif before in scheme.spared and before in placed:
            asked = asked - {name}
    if not asked:
        raise QuantizationError(
            f"{scheme.name}: none of the {len(placed)} nodes that the placement {scheme.placement!r} takes is left to quantize"
        )
    return [name for name in placed if name in asked]


def _dynamic(model: onnx.ModelProto, flavour: Flavour, operators: list[str], spared: Sequence[str]) -> onnx.ModelProto:
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
        nodes_to_exclude=list(spared),
        op_types_to_quantize=operators,
        # All weights here are float32, so what follows operators of other domains, whose types it cannot infer, is too.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT, **_weight_options(flavour)},
    )
    quantizer.quantize_model()
    return cast(onnx.ModelProto, quantizer.model.model)


def _weight_options(flavour: Flavour) -> dict[str, Any]:
    # Unsigned weights with one zero point, 128, for all channels: integer kernels take a single one.
    return {"WeightSymmetric": True} if flavour.weight == "u8" else {}


def _depthwise_signed(graph: Graph, scheme: StaticInt8) -> dict[str, list[dict[str, Any]]]:
    """Depthwise weights stay signed in unsigned flavours.

    onnxruntime has no fast kernel for unsigned per-channel ones (ten times slower than float on x86), and its signed one sums
    single products in 32 bits, so that nothing saturates there.
    """
    axis = {"axis": 0} if scheme.granularity == "channel" else {}
    return {
        str(node.inputs[1].name): [{"quant_type": QuantType.QInt8, "symmetric": True, **axis}]
        for node in graph.model.graph
        if node.op_type == "Conv" and is_depthwise(node) and node.inputs[1] is not None
    }


def _tensors_data(ranges: Ranges) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.bounds.items()},
    )
