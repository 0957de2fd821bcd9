"""Quantizing three real networks in every scheme: it loads, it is close to float, and what stayed float is said."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import (
    FLAVOURS,
    METHODS,
    PLACEMENTS,
    DynamicInt8,
    Float32,
    Graph,
    Quantized,
    StaticInt8,
    Statistics,
    calibrate,
    prepare,
    quantize_dynamic,
    quantize_static,
    ranges_from,
    required_isa,
)
from edgekit_export.placement import nodes_in, place
from edgekit_export.weights import weights
from edgekit_runtime import load
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import QuantizationError

Feed = dict[str, np.ndarray]

# Flavours that no processor saturates: their results are the same to a rounding step on any x86 and ARM.
EXACT = ("u8u8", "u8s7")
INTEGERS = {ir.DataType.INT8, ir.DataType.UINT8}


def sqnr_db(graph: Graph, quantized: Graph, feeds: list[Feed], folder: Path) -> float:
    models = []
    for name, one in (("float", graph), ("int8", quantized)):
        one.save(folder / f"{name}.onnx")
        models.append(load(folder / f"{name}.onnx"))
    wanted, got = ([model(feed) for feed in feeds] for model in models)
    return difference(got, wanted).sqnr_db


def integer_weights(graph: Graph) -> int:
    return sum(
        # The bounds of integer activations are single numbers.
        value.const_value is not None
        and value.const_value.dtype in INTEGERS
        and "zero_point" not in name
        and value.const_value.size > 1
        for name, value in graph.model.graph.initializers.items()
    )


# Network and placement: weights in integers, and the least SQNR in dB. That is 6 dB, one bit, below what was seen with onnxruntime
# 1.31 on x86 without VNNI: other kernels round sums elsewhere, which costs a fraction of a bit.
STATIC = {
    ("conv", "everything"): (3, 40.0),
    ("conv", "linear"): (3, 40.0),
    ("conv", "weighted"): (3, 40.0),
    ("conv", "conv"): (2, 52.0),
    ("attention", "linear"): (4, 42.0),
    ("attention", "weighted"): (4, 45.0),
    ("lstm", "linear"): (1, 40.0),
    ("lstm", "weighted"): (1, 40.0),
}
DYNAMIC = {"conv": (1, 40.0), "attention": (4, 45.0), "lstm": (3, 30.0)}


@pytest.mark.parametrize("flavour", EXACT)
@pytest.mark.parametrize(("network", "placement"), STATIC)
def test_static(
    network: str,
    placement: str,
    flavour: str,
    prepared: dict[str, Graph],
    statistics: dict[str, Statistics],
    feeds: dict[str, list[Feed]],
    tmp_path: Path,
) -> None:
    scheme = StaticInt8(FLAVOURS[flavour], "minmax", placement)  # type: ignore[arg-type]
    quantized = quantize_static(prepared[network], scheme, statistics[network].histograms)
    count, least = STATIC[network, placement]
    assert integer_weights(quantized.graph) == count
    assert sqnr_db(prepared[network], quantized.graph, feeds[network], tmp_path) > least
    assert quantized.graph.changes[-1].detail == scheme.name == f"static-{flavour}-minmax-{placement}"
    complete = network != "lstm" and placement != "conv"
    assert quantized.kind == ("int8" if complete else "mixed")
    assert bool(quantized.notes) == bool(quantized.left_float) == (not complete)


@pytest.mark.parametrize("flavour", EXACT)
@pytest.mark.parametrize("network", DYNAMIC)
def test_dynamic(network: str, flavour: str, prepared: dict[str, Graph], feeds: dict[str, list[Feed]], tmp_path: Path) -> None:
    """Gemm and LSTM among them: the quantizer trips over the shapes that torch's exporter leaves, unless they are cleared."""
    quantized = quantize_dynamic(prepared[network], DynamicInt8(FLAVOURS[flavour]))
    count, least = DYNAMIC[network]
    assert integer_weights(quantized.graph) == count
    assert sqnr_db(prepared[network], quantized.graph, feeds[network], tmp_path) > least
    assert "ConvInteger" not in quantized.graph.operators()
    assert {weight.operator for weight in quantized.left_float} == ({"Conv"} if network == "conv" else set())


@pytest.mark.parametrize(
    ("flavour", "method"), [*((name, "minmax") for name in FLAVOURS), *(("u8u8", name) for name in METHODS[1:])]
)
def test_every_flavour_and_method_loads_and_runs(
    flavour: str,
    method: str,
    prepared: dict[str, Graph],
    statistics: dict[str, Statistics],
    feeds: dict[str, list[Feed]],
    tmp_path: Path,
) -> None:
    for network, graph in prepared.items():
        for placement in PLACEMENTS:
            if not nodes_in(graph, placement):
                continue
            scheme = StaticInt8(FLAVOURS[flavour], method, placement)  # type: ignore[arg-type]
            quantized = quantize_static(graph, scheme, statistics[network].histograms)
            # Saturating flavours and a mask in the ranges may cost any accuracy; what they may not is fail.
            assert sqnr_db(graph, quantized.graph, feeds[network][:1], tmp_path) > -np.inf


def test_masks_stay_out_of_every_placement_but_everything(prepared: dict[str, Graph], statistics: dict[str, Statistics]) -> None:
    ranges = ranges_from(statistics["attention"].histograms, "minmax")
    exploded = set(ranges.exploded(1e6))
    nodes = {str(node.name): node for node in prepared["attention"].model.graph}
    for placement in ("linear", "weighted"):
        for name in place(prepared["attention"], placement, ranges):
            assert not exploded & {value.name for value in (*nodes[name].inputs, *nodes[name].outputs) if value is not None}
    assert set(place(prepared["attention"], "everything", ranges)) == set(nodes)
    weighted, linear = (place(prepared["attention"], placement, ranges) for placement in ("weighted", "linear"))
    assert len(weighted) == 4
    assert set(weighted) < set(linear)


def test_a_static_scheme_says_that_an_lstm_stays_float(prepared: dict[str, Graph], statistics: dict[str, Statistics]) -> None:
    """A perfect score of a network that is still float proves nothing."""
    for placement, words in (("weighted", "the scheme does not take them: LSTM "), ("everything", "left LSTM ")):
        scheme = StaticInt8(FLAVOURS["u8u8"], "minmax", placement)  # type: ignore[arg-type]
        quantized = quantize_static(prepared["lstm"], scheme, statistics["lstm"].histograms)
        assert [weight.operator for weight in quantized.left_float] == ["LSTM", "LSTM"]
        assert any(words in note for note in quantized.notes), quantized.notes
        assert quantized.kind == "mixed"


def weight(name: str, *shape: int, dtype: type = np.float32) -> object:
    return numpy_helper.from_array(np.random.default_rng(1).standard_normal(shape).astype(dtype), name)


def graph_of(nodes: list[object], inputs: list[object], shape: tuple[int | None, ...], dtype: int = TensorProto.FLOAT) -> Graph:
    rank = 4 if nodes[-1].op_type == "GRU" else len(shape)  # type: ignore[attr-defined]
    outputs = [helper.make_tensor_value_info("y", dtype, (None,) * rank)]
    given = [helper.make_tensor_value_info("x", dtype, shape)]
    graph = helper.make_graph(nodes, "g", given, outputs, inputs)
    return Graph(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)))


def quantize_both(graph: Graph, feed: Feed) -> list[str]:
    """What each kind of scheme says of a graph that it cannot quantize."""
    prepared = prepare(graph, [feed])
    histograms = calibrate(prepared, [feed]).histograms
    messages = []
    for attempt in (
        lambda: quantize_static(prepared, StaticInt8(FLAVOURS["u8u8"], "minmax", "weighted"), histograms),
        lambda: quantize_static(prepared, StaticInt8(FLAVOURS["u8u8"], "minmax", "everything"), histograms),
        lambda: quantize_dynamic(prepared, DynamicInt8(FLAVOURS["u8u8"])),
    ):
        with pytest.raises(QuantizationError) as caught:
            attempt()
        messages.append(str(caught.value))
    return messages


def test_a_gru_has_no_integer_form() -> None:
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=4)
    graph = graph_of([node], [weight("w", 1, 12, 8), weight("r", 1, 12, 4)], (None, 2, 8))
    weighted, everything, dynamic = quantize_both(graph, {"x": np.ones((5, 2, 8), np.float32)})
    assert "no node of the graph fits the placement 'weighted'; it has {'GRU': 1}" in weighted
    assert "left all 2 weights in float without a word; the operators are ['GRU']" in everything
    assert "onnxruntime quantizes nothing else dynamically; its weights belong to ['GRU']" in dynamic


def test_a_gru_beside_other_layers_is_noted() -> None:
    nodes = [helper.make_node("MatMul", ["x", "m"], ["h"]), helper.make_node("GRU", ["h", "w", "r"], ["y"], hidden_size=4)]
    graph = graph_of(nodes, [weight("m", 8, 8), weight("w", 1, 12, 8), weight("r", 1, 12, 4)], (None, 2, 8))
    prepared = prepare(graph, [{"x": np.ones((5, 2, 8), np.float32)}])
    quantized = quantize_dynamic(prepared, DynamicInt8(FLAVOURS["u8u8"]))
    assert quantized.kind == "mixed"
    assert [note for note in quantized.notes if "GRU " in note]


def test_nothing_to_quantize() -> None:
    messages = quantize_both(graph_of([helper.make_node("Relu", ["x"], ["y"])], [], (None, 8)), {"x": np.ones((2, 8), np.float32)})
    assert "no node of the graph fits the placement" in messages[0]
    assert "no node that it takes has a constant weight" in messages[1]
    assert "no MatMul, Gemm or LSTM with a constant weight" in messages[2]


@pytest.mark.parametrize(("dtype", "code"), [(np.float16, TensorProto.FLOAT16), (np.float64, TensorProto.DOUBLE)])
def test_other_floats_are_told_to_be_exported_in_float32(dtype: type, code: int) -> None:
    graph = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight("w", 8, 8, dtype=dtype)], (None, 8), code)
    for message in quantize_both(graph, {"x": np.ones((2, 8), dtype)}):
        assert f"the weights are {np.dtype(dtype)}, and onnxruntime quantizes float32 only; export the model in float32" in message


def test_unplaced_weights_of_a_shared_matrix_are_counted_by_node(prepared: dict[str, Graph]) -> None:
    found = weights(prepared["attention"])
    assert Counter(weight.operator for weight in found) in (Counter(Gemm=4), Counter(MatMul=4))
    assert all(weight.dtype == "float32" and weight.size_bytes == 16 * 16 * 4 for weight in found)


def test_names_and_instruction_sets_of_schemes() -> None:
    assert Float32().name == "float32"
    assert required_isa(Float32()) == {}
    assert required_isa(DynamicInt8(FLAVOURS["u8u8"])) == {}
    assert required_isa(StaticInt8(FLAVOURS["u8s7"], "minmax", "linear")) == {}
    for flavour in ("u8s8", "s8s8"):  # sums of pairs saturate in 16 bits without VNNI
        assert required_isa(StaticInt8(FLAVOURS[flavour], "minmax", "linear")) == {"x86_64": ["vnni"]}


def test_quantizing_prints_nothing(
    prepared: dict[str, Graph], statistics: dict[str, Statistics], capfd: pytest.CaptureFixture[str]
) -> None:
    quantized: list[Quantized] = [
        quantize_static(prepared["lstm"], StaticInt8(FLAVOURS["u8s7"], "mse", "everything"), statistics["lstm"].histograms),
        quantize_dynamic(prepared["lstm"], DynamicInt8(FLAVOURS["u8s7"])),
    ]
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert all(one.graph.operators() for one in quantized)
