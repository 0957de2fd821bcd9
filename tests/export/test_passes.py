"""Each graph pass alone: what it promises, on models as exporters really write them."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekit_export import (
    FLAVOURS,
    DynamicInt8,
    Graph,
    StaticInt8,
    Traced,
    calibrate,
    prepare,
    quantize_dynamic,
    quantize_static,
    trace,
)
from edgekit_export.passes import (
    fix_shapes,
    fold_batchnorm,
    fold_constants,
    infer_shapes,
    name_nodes,
    remove_unused,
    unshare_weights,
    upgrade_opset,
)
from edgekit_export.weights import weights
from edgekit_runtime import load
from edgekit_runtime.errors import GraphError

Feed = dict[str, np.ndarray]
DRAW = np.random.default_rng(5)
X = DRAW.standard_normal((2, 8)).astype(np.float32)
IMAGE = DRAW.standard_normal((2, 3, 8, 8)).astype(np.float32)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32), name)


def floats(name: str, *shape: int | str | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def graph_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: list[onnx.TensorProto],
    opset: int = 17,
    functions: list[onnx.FunctionProto] | None = None,
) -> Graph:
    proto = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, initializers),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)],
        ir_version=8,
        functions=functions or [],
    )
    return Graph(ir.from_proto(proto))


def run(graph: Graph, feed: Feed, folder: Path) -> Feed:
    graph.save(folder / "model.onnx")
    return load(folder / "model.onnx")(feed)


def same(before: Graph, after: Graph, feed: Feed, folder: Path) -> None:
    wanted, got = run(before, feed, folder), run(after, feed, folder)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def details(graph: Graph) -> dict[str, str]:
    return {change.step: change.detail for change in graph.changes}


def matmul_graph() -> Graph:
    return graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [floats("x", "b", 8)], [floats("y", "b", 8)], [weight("w", 8, 8)]
    )


def conv_graph(opset: int) -> Graph:
    """Convolution, batch normalization, ReLU and pooling, as an old exporter writes them: nodes without names."""
    normalization = [
        numpy_helper.from_array((np.arange(4) / 3 + 0.5).astype(np.float32), name) for name in ("scale", "shift", "mean", "var")
    ]
    return graph_of(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["y"]),
        ],
        [floats("x", "batch", 3, 8, 8)],
        [floats("y", "batch", 4)],
        [weight("w", 4, 3, 3, 3), *normalization],
        opset,
    )


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_old_operator_sets_are_upgraded_and_can_then_be_quantized_per_channel(opset: int, tmp_path: Path) -> None:
    """Per-channel quantization of opset 12 and older writes a file that only fails when it is loaded."""
    graph = conv_graph(opset)
    upgraded = upgrade_opset(graph)
    assert upgraded.opset == 17
    assert details(upgraded) == {"upgrade opset": f"{opset} to 17"}
    same(graph, upgraded, {"x": IMAGE}, tmp_path)
    prepared = prepare(graph, [{"x": IMAGE}])
    statistics = calibrate(prepared, [{"x": IMAGE}])
    quantized = quantize_static(prepared, StaticInt8(FLAVOURS["u8s7"], "minmax", "everything"), statistics.histograms)
    assert run(quantized.graph, {"x": IMAGE}, tmp_path)["y"].shape == (2, 4)


def test_an_operator_set_that_cannot_be_upgraded_is_told() -> None:
    graph = graph_of([helper.make_node("Mystery", ["x"], ["y"])], [floats("x", 2)], [floats("y", 2)], [], opset=11)
    with pytest.raises(GraphError, match=r"opset 11: .* cannot take it to 13, which int8 needs: .*opset 17 or newer"):
        upgrade_opset(graph)


def test_weights_in_constant_nodes_become_initializers(tmp_path: Path) -> None:
    """Dynamic quantization silently does nothing with a weight in a Constant node."""
    constant = helper.make_node("Constant", [], ["w"], value=weight("w", 8, 8))
    graph = graph_of([constant, helper.make_node("MatMul", ["x", "w"], ["y"])], [floats("x", "b", 8)], [floats("y", "b", 8)], [])
    folded = fold_constants(graph)
    assert folded.operators() == {"MatMul": 1}
    assert [found.operator for found in weights(folded)] == ["MatMul"]
    same(graph, folded, {"x": X}, tmp_path)
    assert quantize_dynamic(prepare(graph, [{"x": X}]), DynamicInt8(FLAVOURS["u8u8"])).left_float == ()


def test_lstm_weights_behind_slice_and_concat_are_folded(lstm: Traced, tmp_path: Path) -> None:
    """Quantizers do not see a weight that its node gets through other nodes."""
    gates = [helper.make_node("Slice", ["raw", f"from{i}", f"to{i}", "axis"], [f"gate{i}"]) for i in range(4)]
    order = helper.make_node("Concat", [f"gate{i}" for i in (0, 3, 1, 2)], ["ordered"], axis=0)
    up = helper.make_node("Unsqueeze", ["ordered", "axis"], ["w"])
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)
    bounds = [
        numpy_helper.from_array(np.array([value]), name)
        for i in range(4)
        for name, value in ((f"from{i}", 4 * i), (f"to{i}", 4 * i + 4))
    ]
    graph = graph_of(
        [*gates, order, up, node],
        [floats("x", "time", "batch", 8)],
        [floats("y", "time", 1, "batch", 4)],
        [weight("raw", 16, 8), weight("r", 1, 16, 4), numpy_helper.from_array(np.array([0]), "axis"), *bounds],
    )
    assert [found.name for found in weights(graph)] == ["r"]
    folded = fold_constants(graph)
    assert folded.operators() == {"LSTM": 1}
    assert len(weights(folded)) == 2
    same(graph, folded, {"x": IMAGE[:, 0]}, tmp_path)
    # And as torch's exporter writes them.
    assert sum(found.operator == "LSTM" for found in weights(prepare(lstm.graph, [{"x": IMAGE[:, 0]}]))) == 2


def test_batch_normalization_is_folded(tmp_path: Path) -> None:
    graph = conv_graph(17)
    folded = fold_batchnorm(graph)
    assert "BatchNormalization" not in folded.operators()
    assert details(folded) == {"fold BatchNormalization": "1 folded, 0 left"}
    same(graph, folded, {"x": IMAGE}, tmp_path)


class ReluFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x).relu())


def test_batch_normalization_behind_a_relu_is_left_and_that_is_on_record() -> None:
    traced = trace(ReluFirst().eval(), {"x": IMAGE}, {"x": {0: "batch"}}, ["y"], parity=False)
    assert details(fold_batchnorm(traced.graph))["fold BatchNormalization"] == "0 folded, 1 left"


def test_initializers_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    graph = graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Relu", ["x"], ["unused"])],
        [floats("x", "b", 8), floats("w", 8, 8)],
        [floats("y", "b", 8)],
        [weight("w", 8, 8), weight("nowhere", 3)],
    )
    assert [spec.name for spec in graph.inputs] == ["x"]
    cleaned = remove_unused(graph)
    assert [value.name for value in cleaned.model.graph.inputs] == ["x"]
    assert details(cleaned) == {"remove unused": "1 nodes, 1 initializers, 1 inputs"}
    same(graph, cleaned, {"x": X}, tmp_path)


def test_functions_are_inlined(tmp_path: Path) -> None:
    twice = helper.make_function(
        "custom", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    graph = graph_of(
        [helper.make_node("Twice", ["x"], ["h"], domain="custom"), helper.make_node("MatMul", ["h", "w"], ["y"])],
        [floats("x", "b", 8)],
        [floats("y", "b", 8)],
        [weight("w", 8, 8)],
        functions=[twice],
    )
    cleaned = remove_unused(graph)
    assert cleaned.operators() == {"Add": 1, "MatMul": 1}
    same(graph, cleaned, {"x": X}, tmp_path)


def test_every_node_gets_a_name_of_its_own() -> None:
    graph = graph_of(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"], name="Relu_0"),
            helper.make_node("Relu", ["b"], ["c"], name="twin"),
            helper.make_node("Relu", ["c"], ["y"], name="twin"),
        ],
        [floats("x", 2)],
        [floats("y", 2)],
        [],
    )
    proto = ir.to_proto(graph.model)
    proto.graph.node[0].name = ""
    named = name_nodes(Graph(ir.from_proto(proto)))
    names = [str(node.name) for node in named.model.graph]
    assert len(set(names)) == 4
    assert all(names)
    assert names[1:3] == ["Relu_0", "twin"]


def test_optional_outputs_stay_left_out() -> None:
    """A name for MaxPool's second output would make onnxruntime compute it."""
    graph = graph_of(
        [helper.make_node("MaxPool", ["x"], ["p", ""], kernel_shape=[2, 2]), helper.make_node("Flatten", ["p"], ["y"])],
        [floats("x", "b", 3, 8, 8)],
        [floats("y", "b", None)],
        [],
    )
    pool = next(iter(prepare(graph, [{"x": IMAGE}]).model.graph))
    assert [value.name for value in pool.outputs][1:] in ([], [""])


def test_shape_inference_goes_on_where_strict_mode_fails() -> None:
    """A declared shape that contradicts the operators fails onnx's strict inference."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    inferred = infer_shapes(graph_of(nodes, [floats("x", "b", 8)], [floats("y", "b", 9)], [weight("w", 8, 8)]))
    assert details(inferred)["infer shapes"].startswith("onnx strict failed (")
    assert details(inferred)["infer shapes"].endswith(", 0 values without shape")
    assert list(next(iter(inferred.model.graph)).outputs[0].shape or []) == ["b", 8]


def test_shapes_that_onnx_does_not_know_come_from_onnxruntime() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Gelu", ["h"], ["g"], domain="com.microsoft")]
    graph = graph_of(
        [*nodes, helper.make_node("Relu", ["g"], ["y"])], [floats("x", "b", 8)], [floats("y", "b", 8)], [weight("w", 8, 8)]
    )
    graph.model.opset_imports["com.microsoft"] = 1
    inferred = infer_shapes(graph)
    assert details(inferred)["infer shapes"] == "onnx strict, 1 values without shape; onnxruntime symbolic, 0 values without shape"
    assert {value.name for node in inferred.model.graph for value in node.outputs if value.shape is not None} == {"h", "g", "y"}


def test_shapes_from_a_tracer_are_forgotten(lstm: Traced) -> None:
    """They say batch 1 for LSTM outputs when the example's batch was 1."""
    inferred = infer_shapes(lstm.graph)
    assert details(inferred)["infer shapes"].endswith("0 values without shape")
    outputs = [value for node in inferred.model.graph if node.op_type == "LSTM" for value in node.outputs if value.name]
    assert all(value.shape is not None and value.shape[-2] == "batch" for value in outputs)


def test_fixed_shapes(conv: Traced, feeds: dict[str, list[Feed]], tmp_path: Path) -> None:
    fixed = fix_shapes(conv.graph, {"image": (4, 3, 12, 12)})
    assert [spec.shape for spec in fixed.inputs] == [(4, 3, 12, 12)]
    assert [spec.shape for spec in infer_shapes(fixed).outputs] == [(4, 5)]
    same(conv.graph, fixed, feeds["conv"][1], tmp_path)


def test_a_weight_used_along_two_axes_is_quantized_along_both(tmp_path: Path) -> None:
    """A weight tied to its own transpose: onnxruntime's quantizer takes one axis for both, and 13 dB are left."""
    graph = graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Gemm", ["h", "w"], ["y"], transB=1)],
        [floats("x", "b", 8)],
        [floats("y", "b", 8)],
        [numpy_helper.from_array((np.eye(8) + 0.1).astype(np.float32) * np.array([1, 30] * 4, np.float32), "w")],
    )
    prepared = prepare(graph, [{"x": X}])
    assert len(unshare_weights(prepared).model.graph.initializers) == 2
    assert unshare_weights(matmul_graph()).changes == ()
    scheme = StaticInt8(FLAVOURS["u8u8"], "minmax", "weighted")
    quantized = quantize_static(prepared, scheme, calibrate(prepared, [{"x": X}]).histograms)
    assert len(quantized.graph.model.graph.initializers) > 2
    wanted, got = run(graph, {"x": X}, tmp_path)["y"], run(quantized.graph, {"x": X}, tmp_path)["y"]
    assert np.abs(wanted - got).max() < 0.05 * np.abs(wanted).max()
