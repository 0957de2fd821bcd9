"""Placing on real graphs: times reach the nodes that they belong to, and what is spared stays float."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.building import quantize_graph, write_float
from edgekit.inspection.optimized_graph import optimized_wiring
from edgekit.placing.attribution import attribute
from edgekit.placing.blocks import join
from edgekit.placing.dividing import measure_division
from edgekit.placing.prices import measure_prices
from edgekit.scheme_names import scheme_named
from edgekit_export import Graph, calibrate, prepare
from edgekit_runtime.node_times import node_times
from edgekit_runtime.session import Provider, SessionConfig

CHANNELS = 16
ONE_THREAD = SessionConfig(threads=1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Conv, Hardswish, depthwise Conv, Clip, Conv with an Add around both, means, Gemm: the prepared graph, files and a feed."""
    draw = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array(draw.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32), name)

    stored = [
        weight("w1", CHANNELS, 3, 3, 3),
        weight("w2", CHANNELS, 1, 3, 3),
        weight("w3", CHANNELS, CHANNELS, 1, 1),
        weight("w4", 10, CHANNELS),
        numpy_helper.from_array(np.asarray(0, np.float32), "low"),
        numpy_helper.from_array(np.asarray(6, np.float32), "high"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["a"], ["b"], "swish"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "deep", pads=[1, 1, 1, 1], group=CHANNELS),
        helper.make_node("Clip", ["c", "low", "high"], ["d"], "clip"),
        helper.make_node("Conv", ["d", "w3"], ["e"], "point"),
        helper.make_node("Add", ["b", "e"], ["f"], "add"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["h"], "flat"),
        helper.make_node("Gemm", ["h", "w4"], ["logits"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        stored,
    )
    folder = tmp_path_factory.mktemp("network")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "given.onnx")
    feed = {"image": draw.normal(0, 1, (1, 3, 32, 32)).astype(np.float32)}
    prepared = prepare(Graph.read(folder / "given.onnx"), [feed])
    statistics = calibrate(prepared, [feed])
    write_float(prepared, Provider(), folder / "float32.onnx")
    quantize_graph(prepared, scheme_named("static-u8s7-minmax-convnet"), statistics, [feed]).graph.save(folder / "int8.onnx")
    return prepared, statistics, folder, feed


@pytest.mark.parametrize("file", ["float32.onnx", "int8.onnx"])
def test_all_time_of_real_work_has_an_owner(network, file):
    graph, _, folder, feed = network
    path = folder / file
    times = node_times(path, feed, config=ONE_THREAD, rounds=3)
    found = attribute(graph, optimized_wiring(path, Provider(), ONE_THREAD)[0], times)
    assert found.unknown_us == 0
    names = {str(node.name) for node in graph.model.graph}
    assert set(found.nodes) <= names
    # A fused activation's time may stand under either name; every convolution's block has some.
    joined = join(graph)
    blocks = {joined[name] for name, spent in found.nodes.items()}
    assert {"first", "deep", "point"} <= blocks


def test_activations_stay_with_what_they_follow_and_additions_of_two_do_not(network):
    joined = join(network[0])
    assert joined["swish"] == "first"
    assert joined["clip"] == "deep"
    assert joined["add"] == "add"


def test_what_a_division_spares_is_float_and_the_rest_is_not(network):
    graph, statistics, folder, feed = network
    scheme = scheme_named("static-u8s7-minmax-convnet")
    placed = ["first", "swish", "deep", "clip", "point", "add"]
    divisible = measure_division(graph, placed, folder / "float32.onnx", folder / "int8.onnx", feed, Provider(), ONE_THREAD)
    division = divisible.fastest()
    assert set(division.spared) <= set(placed)
    assert division.predicted_us <= min(divisible.all_float_us, divisible.all_integer_us) + 1e-6
    # Whatever was fastest here, any set of spared nodes can be built.
    spared = ("first", "swish")
    quantized = quantize_graph(graph, replace(scheme, spared=spared), statistics, [feed])
    operators = quantized.graph.operators()
    assert operators["Conv"] == 3
    floats = [node for node in quantized.graph.model.graph if node.op_type == "Conv" and node.inputs[1].is_initializer()]
    assert [node.name for node in floats] == ["first"]


def test_conversions_have_prices():
    prices = measure_prices(ONE_THREAD)
    assert min(prices.quantize_ns, prices.dequantize_ns, prices.layout_ns) > 0
