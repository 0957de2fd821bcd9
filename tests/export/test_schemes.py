"""Schemes on three real networks: each loads, runs, is close to float, and spares what it is told to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgekit_export import (
    CORRECTIONS,
    FLAVOURS,
    PLACEMENTS,
    BFloat16,
    DynamicInt8,
    Float16,
    Graph,
    Mixture,
    Scheme,
    StaticInt8,
    Statistics,
    WeightOnly,
    calibrate,
    quantize_as,
    quantize_static,
    ranges_from,
    required_isa,
)
from edgekit_export.correcting import rescaled
from edgekit_export.placement import READERS
from edgekit_export.schemes import Correction, Placement
from edgekit_export.weights import weights
from edgekit_runtime import load
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import QuantizationError

Feed = dict[str, np.ndarray]

U8S7, U8U8 = FLAVOURS["u8s7"], FLAVOURS["u8u8"]
WEIGHTED = StaticInt8(U8S7, "minmax", "weighted")
CONV = StaticInt8(U8S7, "minmax", "conv")

# Network and scheme with the least SQNR in dB: 6 dB, one bit, below what was seen with onnxruntime 1.31 on x86 without VNNI, since
# other kernels round sums elsewhere. 16-bit activations leave the weights' own error, about 50 dB.
LEAST_DB: list[tuple[str, Scheme, float]] = [
    ("conv", replace(WEIGHTED, granularity="tensor"), 38.0),
    ("conv", replace(WEIGHTED, flavour=U8U8, placement="convnet", granularity="tensor"), 41.0),
    ("conv", replace(WEIGHTED, flavour=FLAVOURS["u16s8"]), 47.0),
    ("conv", replace(WEIGHTED, flavour=FLAVOURS["s16s8"]), 47.0),
    ("conv", replace(WEIGHTED, outputs="float"), 40.0),
    ("attention", replace(WEIGHTED, outputs="float"), 45.0),
    ("conv", Mixture((CONV, DynamicInt8(U8S7))), 38.0),
    ("conv", Mixture((CONV, WeightOnly(bits=8))), 38.0),
    ("conv", Float16(), 66.0),
    ("conv", BFloat16(stored=True), 52.0),
    ("attention", WeightOnly(), 31.0),
    ("attention", WeightOnly(bits=8, symmetric=False), 50.0),
    ("attention", Mixture((WeightOnly(bits=8), Float16())), 50.0),
    ("attention", Float16(), 77.0),
    ("lstm", Mixture((WEIGHTED, DynamicInt8(U8S7))), 30.0),
    ("lstm", Float16(stored=True), 60.0),
]


@pytest.mark.parametrize(("network", "scheme", "least"), LEAST_DB, ids=lambda value: getattr(value, "name", str(value)))
def test_each_scheme_loads_runs_and_is_close_to_float(
    network: str,
    scheme: Scheme,
    least: float,
    prepared: dict[str, Graph],
    statistics: dict[str, Statistics],
    feeds: dict[str, list[Feed]],
    tmp_path: Path,
) -> None:
    quantized = quantize_as(prepared[network], scheme, statistics[network].histograms, feeds[network])
    assert quantized.graph.changes[-1].detail == scheme.name
    prepared[network].save(tmp_path / "float.onnx")
    quantized.graph.save(tmp_path / "other.onnx")
    wanted, got = ([load(tmp_path / name)(feed) for feed in feeds[network]] for name in ("float.onnx", "other.onnx"))
    assert difference(got, wanted).sqnr_db > least
    assert [tensor.dtype for tensor in quantized.graph.outputs] == [tensor.dtype for tensor in prepared[network].outputs]
    assert [tensor.name for tensor in quantized.graph.outputs] == [tensor.name for tensor in prepared[network].outputs]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("network", ["conv", "attention"])
def test_float_outputs_round_only_what_convolutions_products_and_sums_read(
    network: str, placement: Placement, prepared: dict[str, Graph], statistics: dict[str, Statistics], feeds: dict[str, list[Feed]]
) -> None:
    if network == "attention" and placement in ("conv", "convnet"):
        pytest.skip("it has no convolution")
    scheme = StaticInt8(U8S7, "minmax", placement, outputs="float")
    quantized = quantize_as(prepared[network], scheme, statistics[network].histograms, feeds[network], portable=True)
    nodes = list(quantized.graph.model.graph)
    read = [use.node.op_type for node in nodes if node.op_type == "DequantizeLinear" for use in node.outputs[0].uses()]
    assert read
    assert set(read) <= READERS
    rounded = [node.inputs[0].producer() for node in nodes if node.op_type == "QuantizeLinear"]
    ends = {"QuantizeLinear", "DequantizeLinear"}
    assert not any(node.op_type in ends for node in rounded if node is not None), "nothing is rounded twice"
    assert {node.domain for node in nodes} == {""}


def test_portable_graphs_keep_their_activations(prepared: dict[str, Graph], statistics: dict[str, Statistics]) -> None:
    def operators(*, portable: bool) -> set[str]:
        scheme = StaticInt8(U8S7, "minmax", "convnet")
        quantized = quantize_as(prepared["conv"], scheme, statistics["conv"].histograms, portable=portable)
        return {node.op_type for node in quantized.graph.model.graph}

    assert "HardSwish" in operators(portable=True) - operators(portable=False)
    before = {node.op_type for node in prepared["conv"].model.graph}
    assert operators(portable=True) <= before | {"QuantizeLinear", "DequantizeLinear"}


def test_products_with_float_outputs_run_in_integers_on_the_cpu_provider(
    prepared: dict[str, Graph], statistics: dict[str, Statistics], feeds: dict[str, list[Feed]], tmp_path: Path
) -> None:
    scheme = replace(WEIGHTED, outputs="float")
    quantize_as(prepared["attention"], scheme, statistics["attention"].histograms, tested=False).graph.save(tmp_path / "int8.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(tmp_path / "int8.onnx", options, providers=["CPUExecutionProvider"])
    run = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert run.count("MatMulIntegerToFloat") == 4
    assert "DequantizeLinear" not in run


def test_the_given_graph_is_left_alone(
    prepared: dict[str, Graph], statistics: dict[str, Statistics], feeds: dict[str, list[Feed]], tmp_path: Path
) -> None:
    """Copies of a graph share what is in it: a type changed in one must not show in another."""
    prepared["conv"].save(tmp_path / "before.onnx")
    for scheme in (Float16(), BFloat16(stored=True), WeightOnly(), DynamicInt8(U8S7), WEIGHTED):
        quantize_as(prepared["conv"], scheme, statistics["conv"].histograms)
        prepared["conv"].save(tmp_path / "after.onnx")
        assert (tmp_path / "after.onnx").read_bytes() == (tmp_path / "before.onnx").read_bytes(), scheme.name


@pytest.mark.parametrize("network", ["conv", "attention", "lstm"])
def test_spared_nodes_stay_float_in_every_kind_of_scheme(
    network: str, prepared: dict[str, Graph], statistics: dict[str, Statistics]
) -> None:
    graph, histograms = prepared[network], statistics[network].histograms
    whole = "everything" if network == "conv" else "weighted"
    for scheme in (replace(WEIGHTED, placement=whole), DynamicInt8(U8S7), WeightOnly()):
        taken = _taken(graph, quantize_as(graph, scheme, histograms).graph)
        if len(taken) < 2:
            continue  # to spare the only one leaves nothing to quantize
        for name in taken:
            sparing = replace(scheme, spared=(name,))
            assert _taken(graph, quantize_as(graph, sparing, histograms).graph) == taken - {name}
            assert sparing.name == f"{scheme.name}-spared1"


def _taken(before: Graph, after: Graph) -> set[str]:
    """Nodes whose weight was float before and is not any more; a quantizer renames a Gemm that it splits up."""
    left = {weight.name for weight in weights(after)}
    return {weight.node for weight in weights(before) if weight.name not in left}


def test_only_what_is_asked_for_is_quantized(prepared: dict[str, Graph], statistics: dict[str, Statistics]) -> None:
    graph, histograms = prepared["conv"], statistics["conv"].histograms
    nodes = [weight.node for weight in weights(graph)]
    for count in (1, 2):
        only = nodes[:count]
        assert _taken(graph, quantize_static(graph, WEIGHTED, histograms, only=only).graph) == set(only)
    with pytest.raises(QuantizationError, match=r"none of the \d nodes .* is left to quantize"):
        quantize_static(graph, WEIGHTED, histograms, only=[])
    with pytest.raises(QuantizationError, match="the graph has no node 'head'"):
        quantize_static(graph, replace(WEIGHTED, spared=("head",)), histograms)


def test_a_mixture_leaves_nothing_out(prepared: dict[str, Graph], statistics: dict[str, Statistics]) -> None:
    """Of an LSTM and a linear layer a static scheme takes the one and a dynamic one the other."""
    static = quantize_as(prepared["lstm"], WEIGHTED, statistics["lstm"].histograms)
    mixed = quantize_as(prepared["lstm"], Mixture((WEIGHTED, DynamicInt8(U8S7))), statistics["lstm"].histograms)
    assert {weight.operator for weight in static.left_float} == {"LSTM"}
    assert (static.kind, mixed.kind, mixed.left_float, mixed.notes) == ("mixed", "int8", (), ())


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ((WEIGHTED,), "at least two parts"),
        ((DynamicInt8(U8S7), WEIGHTED), "one static part at most, and it comes first"),
        ((Float16(), WeightOnly()), "come last"),
        ((DynamicInt8(U8S7), Float16()), "do not fit 16-bit floats"),
    ],
)
def test_parts_that_do_not_go_together(parts: tuple[DynamicInt8 | StaticInt8, ...], told: str, prepared: dict[str, Graph]) -> None:
    with pytest.raises(QuantizationError, match=told):
        quantize_as(prepared["conv"], Mixture(parts))


def test_what_onnxruntime_does_not_take_is_told_by_scheme_and_reason(
    prepared: dict[str, Graph], feeds: dict[str, list[Feed]]
) -> None:
    """No build of its CPU provider has kernels for bfloat16 matrix products."""
    with pytest.raises(QuantizationError, match=r"^bfloat16: onnxruntime does not take the graph .*(MatMul|bfloat16)"):
        quantize_as(prepared["attention"], BFloat16(), sample=feeds["attention"])


def test_16_bit_activations_say_what_the_cpu_does_with_them(prepared: dict[str, Graph], statistics: dict[str, Statistics]) -> None:
    quantized = quantize_as(prepared["conv"], replace(WEIGHTED, flavour=FLAVOURS["u16s8"]), statistics["conv"].histograms)
    assert any("computes this graph in float" in note for note in quantized.notes)
    types = {str(value.const_value.dtype) for value in quantized.graph.model.graph.initializers.values() if value.const_value}
    assert {"UINT16", "INT8"} <= types


def test_instruction_sets() -> None:
    """Sums of pairs of full 8-bit signed weights saturate in 16 bits without VNNI; nothing else does."""
    vnni = {"x86_64": ["vnni"]}
    saturating = replace(WEIGHTED, flavour=FLAVOURS["u8s8"])
    assert required_isa(saturating) == vnni
    assert required_isa(Mixture((WEIGHTED, DynamicInt8(FLAVOURS["u8s8"])))) == vnni
    for scheme in (WEIGHTED, DynamicInt8(FLAVOURS["s8s7"]), replace(WEIGHTED, flavour=FLAVOURS["s16s8"]), WeightOnly(), Float16()):
        assert required_isa(scheme) == {}
    assert required_isa(Mixture((WEIGHTED, WeightOnly()))) == {}


@pytest.mark.parametrize("network", ["conv", "attention"])
@pytest.mark.parametrize("corrections", [(one,) for one in CORRECTIONS] + [CORRECTIONS], ids=lambda some: "-".join(some))
def test_corrections_run_in_their_order_and_lose_nothing(
    network: str,
    corrections: tuple[Correction, ...],
    prepared: dict[str, Graph],
    statistics: dict[str, Statistics],
    feeds: dict[str, list[Feed]],
    tmp_path: Path,
) -> None:
    graph, histograms = prepared[network], statistics[network].histograms
    plain = replace(WEIGHTED, granularity="tensor")
    models = []
    for name, one in (
        ("float", graph),
        ("plain", quantize_static(graph, plain, histograms).graph),
        ("corrected", quantize_static(graph, replace(plain, corrections=corrections), histograms, sample=feeds[network]).graph),
    ):
        one.save(tmp_path / f"{name}.onnx")
        models.append(load(tmp_path / f"{name}.onnx"))
    wanted, before, after = ([model(feed) for feed in feeds[network]] for model in models)
    # What corrections win depends on the network; these are too well-behaved for much. A decibel is one rounding more or less.
    assert difference(after, wanted).sqnr_db > difference(before, wanted).sqnr_db - 1.0


def test_ranges_are_those_of_the_corrected_graph(
    prepared: dict[str, Graph], statistics: dict[str, Statistics], feeds: dict[str, list[Feed]]
) -> None:
    """Equalization changes what tensors hold: a scale from the old ranges would clip, or waste most of its steps."""
    graph = prepared["conv"]
    corrected = rescaled(graph, replace(WEIGHTED, corrections=("equalized",)), statistics["conv"].histograms, feeds["conv"])
    assert corrected.graph is not graph
    anew = calibrate(corrected.graph, feeds["conv"]).histograms
    assert ranges_from(corrected.histograms, "minmax") == ranges_from(anew, "minmax")
    assert ranges_from(corrected.histograms, "minmax") != ranges_from(statistics["conv"].histograms, "minmax")


def test_a_correction_that_finds_nothing_says_so(
    prepared: dict[str, Graph], statistics: dict[str, Statistics], feeds: dict[str, list[Feed]]
) -> None:
    scheme = replace(WEIGHTED, corrections=("equalized",))
    quantized = quantize_static(prepared["attention"], scheme, statistics["attention"].histograms, sample=feeds["attention"])
    assert any("equalized: it found nothing" in note for note in quantized.notes)


def test_corrections_without_a_sample_are_refused(prepared: dict[str, Graph], statistics: dict[str, Statistics]) -> None:
    with pytest.raises(QuantizationError, match=r"corrections \(debiased\) look at calibration feeds; give a sample"):
        quantize_static(prepared["conv"], replace(WEIGHTED, corrections=("debiased",)), statistics["conv"].histograms)
