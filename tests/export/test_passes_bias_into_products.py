"""A bias inside an integer product is the same sum, and nothing else is taken for one."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import FLAVOURS, Graph, StaticInt8, Statistics, quantize_as
from edgekit_export.agreement import SAME_DB, agreement_db
from edgekit_export.passes import bias_into_products

Feed = dict[str, np.ndarray]
SCHEME = StaticInt8(FLAVOURS["u8s7"], "minmax", "weighted", outputs="float")


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.model.graph)


def product(bias: np.ndarray, axis: int = 1, scales: int = 5) -> Graph:
    """(batch, 4) integers by a (4, 5) matrix, and a constant added."""
    draw = np.random.default_rng(0)
    arrays = {
        "step": np.array(1 / 32, np.float32),
        "zero": np.array(128, np.uint8),
        "weight": draw.integers(-60, 60, (4, 5)).astype(np.int8),
        "weight_step": draw.uniform(0.01, 0.1, scales).astype(np.float32),
        "weight_zero": np.zeros(scales, np.int8),
        "bias": bias,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["x_integer"]),
        helper.make_node("DequantizeLinear", ["x_integer", "step", "zero"], ["x_rounded"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_step", "weight_zero"], ["weight_float"], axis=axis),
        helper.make_node("MatMul", ["x_rounded", "weight_float"], ["product"], name="product"),
        helper.make_node("Add", ["bias", "product"], ["y"], name="sum"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 4), ("y", 5))]
    stored = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], stored), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    return Graph(ir.from_proto(model))


FEEDS = [{"x": np.random.default_rng(1).uniform(-3, 3, (6, 4)).astype(np.float32)}]


def test_a_bias_goes_into_the_product() -> None:
    graph = product(np.linspace(-9, 9, 5, dtype=np.float32))
    after = bias_into_products(graph)
    assert operators(after) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}
    assert agreement_db(graph, after, FEEDS) > SAME_DB
    assert [tensor.name for tensor in after.outputs] == ["y"]
    assert operators(graph)["Add"] == 1, "the given graph is left alone"


@pytest.mark.parametrize(
    "graph",
    [product(np.ones((6, 5), np.float32)), product(np.ones(1, np.float32)), product(np.ones(5, np.float32), axis=0, scales=4)],
    ids=["not a vector", "one number for all", "scales along the sum"],
)
def test_anything_else_stays(graph: Graph) -> None:
    assert operators(bias_into_products(graph)) == operators(graph)


def test_in_a_network_it_is_the_same_function(
    prepared: dict[str, Graph], statistics: dict[str, Statistics], feeds: dict[str, list[Feed]]
) -> None:
    plain, own = (
        quantize_as(prepared["attention"], SCHEME, statistics["attention"].histograms, feeds["attention"], portable=portable)
        for portable in (True, False)
    )
    assert operators(own.graph)["MatMulIntegerToFloat"] == 4
    assert own.kind == plain.kind == "int8"
    assert agreement_db(plain.graph, own.graph, feeds["attention"]) > SAME_DB
