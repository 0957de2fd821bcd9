"""Which schemes suit a graph, and what a candidate that cannot be built says."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.building import placed_alike, quantize_graph, suits, write_candidate
from edgekit.candidates import Candidate
from edgekit.scheme_names import scheme_named
from edgekit_export import Graph, calibrate, prepare
from edgekit_runtime import Provider, SessionConfig

FEED = {"x": np.ones((1, 3, 8, 8), np.float32)}


def graph_of(conv, product, table=0):
    """A convolution of `conv` channels, and a product with `product` outputs, each zero for none."""
    nodes, constants, value, width = [], {}, "x", 3
    if conv:
        nodes.append(helper.make_node("Conv", [value, "k"], ["c"], name="conv", pads=[1, 1, 1, 1]))
        constants["k"] = np.ones((conv, 3, 3, 3), np.float32)
        value, width = "c", conv
    nodes.append(helper.make_node("ReduceSum", [value, "axes"], ["p"], name="pool", keepdims=0))
    nodes.append(helper.make_node("Softmax", ["p"], ["s"], name="soft"))  # float on purpose: what is behind it is no convnet
    constants["axes"] = np.asarray([2, 3])
    value = "s"
    if product:
        nodes.append(helper.make_node("MatMul", ["s", "w"], ["m"], name="product"))
        constants["w"] = np.ones((width, product), np.float32)
        value, width = "m", product
    if table:
        nodes.append(helper.make_node("Gather", ["table", "index"], ["row"], name="lookup"))
        nodes.append(helper.make_node("Add", [value, "row"], ["t"], name="add"))
        constants |= {"table": np.ones((table, width), np.float32), "index": np.asarray(1)}
        value = "t"
    nodes.append(helper.make_node("Identity", [value], ["y"], name="end"))
    inner = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", width))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return Graph(ir.from_proto(helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)))


@pytest.mark.parametrize(
    ("sizes", "scheme", "fits"),
    [
        ((8, 0), "static-u8u8-minmax-conv", True),
        ((0, 8), "static-u8u8-minmax-conv", False),
        ((8, 8), "static-u8u8-minmax-conv+dynamic-u8u8", True),
        ((8, 0), "static-u8u8-minmax-conv+dynamic-u8u8", False),
        ((0, 8), "static-u8u8-minmax-conv+dynamic-u8u8", False),
        ((64, 1), "static-u8u8-minmax-conv+dynamic-u8u8", False),  # the product is a hundredth of the weights
        ((8, 8), "static-u8u8-minmax-weighted+dynamic-u8u8", False),  # which leaves nothing
        ((8, 200), "weights-int4-b32", True),
        ((8, 1), "weights-int4-b32", False),
        ((0, 200, 4000), "weights-int4-b32", True),  # tables get 8 bits whatever they weigh
        ((8, 8), "float16", True),
        ((8, 8), "static-u8u8-minmax-everything", True),
    ],
)
def test_what_suits_a_graph(sizes, scheme, fits):
    assert suits(graph_of(*sizes), scheme_named(scheme)) == fits


def test_placements_that_come_to_the_same_nodes_are_told_to_be_alike():
    graph = prepare(graph_of(8, 0), [FEED])
    statistics = calibrate(graph, [FEED])
    linear, weighted, conv, tensor = (
        placed_alike(graph, scheme_named(f"static-u8u8-minmax-{name}"), statistics)
        for name in ("linear", "weighted", "conv", "conv-tensor")
    )
    assert linear == weighted == conv != tensor


def test_a_correction_without_a_sample_says_why_there_is_no_file(tmp_path):
    graph = prepare(graph_of(8, 0), [FEED])
    statistics = calibrate(graph, [FEED])
    made = [
        write_candidate(
            graph, Candidate(scheme_named(name), Provider(), SessionConfig()), statistics, [], tmp_path / f"{name}.onnx"
        )
        for name in ("static-u8u8-minmax-conv-debiased", "static-u8u8-minmax-conv")
    ]
    assert [one.failure is None for one in made] == [False, True]
    assert "give a sample" in made[0].failure


def test_any_scheme_is_built_by_its_name():
    graph = prepare(graph_of(8, 64), [FEED])
    statistics = calibrate(graph, [FEED])
    for name, kind in (("static-u8u8-minmax-conv+weights-int8-b32", "int8"), ("weights-int4-b32", "mixed"), ("float16", "float16")):
        assert quantize_graph(graph, scheme_named(name), statistics, [FEED]).kind == kind
