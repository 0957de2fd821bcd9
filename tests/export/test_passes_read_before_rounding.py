"""What computes in float reads what there was before it was rounded for others."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import Graph
from edgekit_export.agreement import agreement_db
from edgekit_export.passes import read_before_rounding

FEED = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
STEP = 1 / 4


@pytest.fixture
def block() -> Graph:
    """x · W + x, where both the product and the sum read x rounded, and a norm behind them reads the rounded sum."""
    arrays = {
        "step": np.array(STEP, np.float32),
        "zero": np.array(128, np.uint8),
        "weight": np.random.default_rng(1).integers(-60, 60, (8, 8)).astype(np.int8),
        "weight_step": np.array(1 / 200, np.float32),
        "weight_zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["x_integer"], name="quantize"),
        helper.make_node("DequantizeLinear", ["x_integer", "step", "zero"], ["x_rounded"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["weight", "weight_step", "weight_zero"], ["weight_float"], name="widen"),
        helper.make_node("MatMul", ["x_rounded", "weight_float"], ["product"], name="product"),
        helper.make_node("Add", ["product", "x_rounded"], ["sum"], name="residual"),
        helper.make_node("Softmax", ["sum"], ["y"], name="norm"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in ("x", "y")]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    )
    return Graph(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)))


def inputs(graph: Graph) -> dict[str, list[str]]:
    return {str(node.name): [str(value.name) for value in node.inputs if value is not None] for node in graph.model.graph}


def test_the_sum_reads_the_tensor_itself_and_the_product_what_was_rounded(block: Graph) -> None:
    after = read_before_rounding(block, ["product"])
    assert inputs(after)["residual"] == ["product", "x"]
    assert inputs(after)["product"] == inputs(block)["product"]
    assert inputs(block)["residual"] == ["product", "x_rounded"], "the given graph is left alone"
    assert after.changes[-1].detail == "1 inputs"


def test_it_comes_nearer_to_float(block: Graph) -> None:
    exact = read_before_rounding(block, [])
    assert "quantize" not in inputs(exact), "what nothing reads any more is gone"
    assert "widen" in inputs(exact), "weights are integers in any case"
    one = read_before_rounding(block, ["product"])
    assert agreement_db(exact, one, [FEED]) > agreement_db(exact, block, [FEED]) + 1


def test_nothing_to_do(block: Graph) -> None:
    after = read_before_rounding(block, ["product", "residual"])
    assert inputs(after) == inputs(block)
