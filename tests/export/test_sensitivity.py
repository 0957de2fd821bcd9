"""A switchable graph computes what onnxruntime's quantizer would have made of any choice of nodes."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import FLAVOURS, Graph, StaticInt8, Statistics, calibrate, prepare, quantize_static
from edgekit_export.calibration import ranges_from
from edgekit_export.placement import place
from edgekit_export.sensitivity import Switchable, open_switchable
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import QuantizationError
from edgekit_runtime.session import SessionConfig, open_session

Feed = dict[str, np.ndarray]

NETWORKS = [("conv", "everything"), ("conv", "conv"), ("attention", "everything"), ("attention", "weighted"), ("lstm", "linear")]
# Fused integer kernels, with x86's precise ones, and pairs computed one by one in float.
# onnxruntime by itself quantizes a Conv or Gemm that is float between Q/DQ pairs, its weights per tensor: spared ones must not be.
SPARING = {"optimization.disable_specified_optimizers": "WeightBiasQuantization"}
FUSED = SessionConfig(entries={"session.x64quantprecision": "1", **SPARING})
UNFUSED = SessionConfig(graph_optimization="disable")
# Sums are taken in another order, so that here and there a value falls on the other side of a rounding border. That is noise far
# below quantization's own; where nothing flips, what is left is float's rounding, 100 dB and more below the signal.
FLIPS_DB = 20.0
FLOAT_DB = 90.0


def scheme(placement: str, flavour: str = "u8s7") -> StaticInt8:
    return StaticInt8(FLAVOURS[flavour], "minmax", placement)  # type: ignore[arg-type]


def outputs(graph: Graph, feeds: list[Feed], folder: Path, config: SessionConfig = UNFUSED) -> list[Feed]:
    graph.save(folder / "model.onnx")
    session = open_session(folder / "model.onnx", config=config).session
    names = [spec.name for spec in graph.outputs]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]


def sqnr_db(got: list[Feed], wanted: list[Feed]) -> float:
    return difference(got, wanted).sqnr_db


def switched(switchable: Switchable, feeds: list[Feed], on: object) -> list[Feed]:
    return [switchable.run(feed, on) for feed in feeds]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def switchables(prepared: dict[str, Graph], statistics: dict[str, Statistics]) -> dict[tuple[str, str], Switchable]:
    return {
        (network, placement): open_switchable(prepared[network], scheme(placement), statistics[network].histograms)
        for network, placement in NETWORKS
    }


@pytest.mark.parametrize(("network", "placement"), NETWORKS)
def test_all_off_is_float_and_all_on_is_the_quantized_graph(
    network: str,
    placement: str,
    switchables: dict[tuple[str, str], Switchable],
    prepared: dict[str, Graph],
    statistics: dict[str, Statistics],
    feeds: dict[str, list[Feed]],
    tmp_path: Path,
) -> None:
    switchable, given_feeds = switchables[network, placement], feeds[network]
    floats = outputs(prepared[network], given_feeds, tmp_path)
    assert sqnr_db(switched(switchable, given_feeds, ()), floats) > FLOAT_DB
    quantized = quantize_static(prepared[network], scheme(placement), statistics[network].histograms).graph
    all_on = switched(switchable, given_feeds, switchable.nodes)
    loss = sqnr_db(all_on, floats)
    for config in (UNFUSED, FUSED):
        real = outputs(quantized, given_feeds, tmp_path, config)
        assert sqnr_db(all_on, real) > loss + FLIPS_DB or sqnr_db(all_on, real) > FLOAT_DB
        assert sqnr_db(real, floats) == pytest.approx(loss, abs=0.5)


@pytest.mark.parametrize("flavour", ["u8u8", "s8s8", "u8s8"])
def test_any_flavour(
    flavour: str, prepared: dict[str, Graph], statistics: dict[str, Statistics], feeds: dict[str, list[Feed]], tmp_path: Path
) -> None:
    """U8S8 too: nothing saturates here, whatever the processor."""
    switchable = open_switchable(prepared["conv"], scheme("everything", flavour), statistics["conv"].histograms)
    quantized = quantize_static(prepared["conv"], scheme("everything", flavour), statistics["conv"].histograms).graph
    real = outputs(quantized, feeds["conv"], tmp_path)
    assert sqnr_db(switched(switchable, feeds["conv"], switchable.nodes), real) > 40 + FLIPS_DB


@pytest.mark.parametrize(("network", "placement"), NETWORKS)
def test_alone_and_spared_are_what_brute_force_gives(
    network: str,
    placement: str,
    switchables: dict[tuple[str, str], Switchable],
    prepared: dict[str, Graph],
    statistics: dict[str, Statistics],
    feeds: dict[str, list[Feed]],
    tmp_path: Path,
) -> None:
    """Really quantizing one group alone, and all but one: the same SQNR within half a decibel, so the same ranks."""
    switchable, histograms = switchables[network, placement], statistics[network].histograms
    floats = outputs(prepared[network], feeds[network], tmp_path)
    with_weights = [group for group in switchable.groups if group.weight_bytes and _has_matrix(group, prepared[network])]
    assert with_weights
    found, real = [], []
    for group in with_weights:
        rest = [name for name in switchable.nodes if name not in group.nodes]
        for on in (group.nodes, rest):
            try:
                graph = quantize_static(prepared[network], scheme(placement), histograms, only=on).graph
            except QuantizationError:  # nothing with a weight is left
                continue
            real.append(sqnr_db(outputs(graph, feeds[network], tmp_path, FUSED), floats))
            found.append(sqnr_db(switched(switchable, feeds[network], on), floats))
    assert real
    assert found == pytest.approx(real, abs=0.5)
    for one, other in itertools.permutations(range(len(real)), 2):
        if real[one] < real[other] - 1.0:
            assert found[one] < found[other]


def test_onnxruntime_quantizes_spared_convolutions_unless_told_not_to(
    prepared: dict[str, Graph], statistics: dict[str, Statistics], feeds: dict[str, list[Feed]], tmp_path: Path
) -> None:
    """A session that allows it rounds the weights of a spared node between quantized ones, with one scale for all channels."""
    _, between = (str(node.name) for node in prepared["conv"].model.graph if node.op_type == "Conv")
    spared = replace(scheme("everything"), spared=(between,))
    graph = quantize_static(prepared["conv"], spared, statistics["conv"].histograms).graph
    exact = outputs(graph, feeds["conv"], tmp_path)
    allowed = dict.fromkeys(SPARING, "")
    told, untold = (
        sqnr_db(outputs(graph, feeds["conv"], tmp_path, SessionConfig(entries=entries)), exact) for entries in (SPARING, allowed)
    )
    assert told > untold + 10


def _has_matrix(group: object, graph: Graph) -> bool:
    """quantize_static wants at least one weight, and a bias is none."""
    nodes = {node.name: node for node in graph.model.graph}
    kinds = {"Conv", "Gemm", "MatMul"}
    return any(
        nodes[name].op_type in kinds and any(value is not None and value.is_initializer() for value in nodes[name].inputs)
        for name in group.nodes  # type: ignore[attr-defined]
    )


@given(data=st.data())
@settings(max_examples=12)
def test_any_choice_of_groups(
    data: st.DataObject,
    switchables: dict[tuple[str, str], Switchable],
    prepared: dict[str, Graph],
    statistics: dict[str, Statistics],
    feeds: dict[str, list[Feed]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    switchable, graph = switchables["conv", "everything"], prepared["conv"]
    groups = [group for group in switchable.groups if group.kind == "node"]
    chosen = data.draw(st.lists(st.sampled_from(groups), min_size=1, unique_by=lambda group: group.name))
    on = [name for group in chosen for name in group.nodes]
    if not any(_has_matrix(group, graph) for group in chosen):
        return
    quantized = quantize_static(graph, scheme("everything"), statistics["conv"].histograms, only=on).graph
    folder = tmp_path_factory.mktemp("choice")
    real = outputs(quantized, feeds["conv"], folder)
    loss = sqnr_db(real, outputs(graph, feeds["conv"], folder))
    assert sqnr_db(switched(switchable, feeds["conv"], on), real) > loss + FLIPS_DB


@pytest.mark.parametrize(("network", "placement"), NETWORKS)
def test_groups_partition_what_is_quantized(
    network: str,
    placement: str,
    switchables: dict[tuple[str, str], Switchable],
    prepared: dict[str, Graph],
    statistics: dict[str, Statistics],
) -> None:
    switchable = switchables[network, placement]
    placed = place(prepared[network], scheme(placement).placement, ranges_from(statistics[network].histograms, "minmax"))
    assert len(set(switchable.nodes)) == len(switchable.nodes)
    assert set(switchable.nodes) <= set(placed)
    for group in switchable.groups:
        assert switchable.closed_by(group.nodes)
        assert switchable.closed_by(group.nodes) <= switchable.closed_by(switchable.nodes)
        assert set(group.nodes) <= set(switchable.nodes)
    assert switchable.closed_by(()) == frozenset()


def test_activations_go_with_their_convolution(switchables: dict[tuple[str, str], Switchable]) -> None:
    groups = [group for group in switchables["conv", "everything"].groups if group.kind == "node"]
    with_relu = [group.operators for group in groups if "Relu" in group.operators]
    assert with_relu == [("Conv", "Relu")]


def test_the_three_readers_of_one_tensor_are_a_group(switchables: dict[tuple[str, str], Switchable]) -> None:
    """Query, key and value read one normalized tensor: it stays rounded until all of them are spared."""
    shared = [group for group in switchables["attention", "weighted"].groups if group.kind == "shared"]
    assert any(len([one for one in group.operators if one in ("MatMul", "Gemm")]) == 3 for group in shared)
    switchable = switchables["attention", "weighted"]
    together = next(group for group in shared if len(group.nodes) >= 3)
    everything = switchable.closed_by(switchable.nodes)
    freed = everything - switchable.closed_by([name for name in switchable.nodes if name not in together.nodes])
    one_by_one = set()
    for name in together.nodes:
        one_by_one |= everything - switchable.closed_by([other for other in switchable.nodes if other != name])
    assert one_by_one < freed


def test_an_embedding_table_has_a_switch(tmp_path: Path) -> None:
    """Schemes store tables in 8 bits, a scale a row; that is a group like any other."""
    draw = np.random.default_rng(0)
    constants = {"table": draw.standard_normal((600, 32)), "w": draw.standard_normal((32, 4))}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="lookup"),
            helper.make_node("MatMul", ["rows", "w"], ["y"], name="product"),
        ],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ("batch",))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 4))],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    feed = {"ids": draw.integers(0, 600, 64)}
    model = Graph(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)))
    prepared = prepare(model, [feed])
    histograms = calibrate(prepared, [feed]).histograms
    switchable = open_switchable(prepared, scheme("weighted"), histograms)
    assert [group.operators for group in switchable.groups if group.kind == "node"] == [("Gather",), ("MatMul",)]
    real = outputs(quantize_static(prepared, scheme("weighted"), histograms).graph, [feed], tmp_path)
    floats = outputs(prepared, [feed], tmp_path)
    all_on = switched(switchable, [feed], switchable.nodes)
    assert sqnr_db(all_on, real) > sqnr_db(real, floats) + FLIPS_DB
    assert sqnr_db(switched(switchable, [feed], ["lookup"]), floats) > sqnr_db(all_on, floats)


def test_inner_tensors_can_be_observed(switchables: dict[tuple[str, str], Switchable], feeds: dict[str, list[Feed]]) -> None:
    switchable, feed = switchables["conv", "everything"], feeds["conv"][0]
    observed = switchable.observed()
    names = list(observed.tensors)
    off, on = (observed.run(feed, nodes, names) for nodes in ((), observed.nodes))
    assert "image" in names
    np.testing.assert_array_equal(off["image"], feed["image"])
    for name in names:
        assert off[name].shape == on[name].shape
        # A tensor that was rounded has no more values than its integers have.
        assert len(np.unique(on[name])) <= 256
        assert not np.array_equal(off[name], on[name])


def test_a_name_that_is_not_quantized_is_refused(
    switchables: dict[tuple[str, str], Switchable], feeds: dict[str, list[Feed]]
) -> None:
    with pytest.raises(QuantizationError, match="'nobody' is none of the nodes that the scheme quantizes"):
        switchables["conv", "everything"].run(feeds["conv"][0], ["nobody"])
