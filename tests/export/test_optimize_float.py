"""The float model optimized offline: the same outputs, sooner opened, or the graph as it was."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgekit_export import Graph, optimize_float
from edgekit_runtime import load

Feed = dict[str, np.ndarray]


@pytest.mark.parametrize("network", ["conv", "attention", "lstm"])
def test_outputs_stay(network: str, prepared: dict[str, Graph], feeds: dict[str, list[Feed]], tmp_path: Path) -> None:
    graph = prepared[network]
    before = ir.to_proto(graph.model).SerializeToString(deterministic=True)
    optimized = optimize_float(graph)
    assert optimized.changes[-1].detail == "onnxruntime, extended"
    assert ir.to_proto(graph.model).SerializeToString(deterministic=True) == before
    assert [str(spec) for spec in (*optimized.inputs, *optimized.outputs)] == [str(s) for s in (*graph.inputs, *graph.outputs)]
    graph.save(tmp_path / "before.onnx")
    optimized.save(tmp_path / "after.onnx")
    for feed in feeds[network]:
        wanted, got = load(tmp_path / "before.onnx")(feed), load(tmp_path / "after.onnx")(feed)
        for name, array in wanted.items():
            np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)


def test_what_onnxruntime_refuses_comes_back_as_it_was() -> None:
    node = helper.make_node("NoSuchOperator", ["x"], ["y"], domain="custom")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("custom", 1)])
    graph = Graph(ir.from_proto(model))
    optimized = optimize_float(graph)
    assert optimized.model is graph.model
    assert optimized.changes[-1].step == "optimize float"
    assert optimized.changes[-1].detail.startswith("left to the device: ")
