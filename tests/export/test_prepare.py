"""Prepare: what becomes of a step that fails, and of graphs with branches, loops and sequences."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

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
from edgekit_runtime import load
from edgekit_runtime.errors import SessionError

Feed = dict[str, np.ndarray]
DRAW = np.random.default_rng(5)
X = DRAW.standard_normal((2, 8)).astype(np.float32)


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


def matmul_graph(opset: int = 17) -> Graph:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return graph_of([node], [floats("x", "b", 8)], [floats("y", "b", 8)], [weight("w", 8, 8)], opset)


def test_no_files_are_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime's own preparation leaves weight files and sym_shape_infer_temp.onnx in the current folder when it fails."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    graph = graph_of([helper.make_node("Mystery", ["x"], ["y"], domain="custom")], [floats("x", 2)], [floats("y", 2)], [])
    infer_shapes(graph)
    with pytest.raises(SessionError):
        prepare(graph, [{"x": np.zeros(2, np.float32)}])
    prepare(matmul_graph(), [{"x": X}])
    assert list(work.iterdir()) == []
    assert list(temporary.iterdir()) == []


def breaks(graph: Graph) -> Graph:
    raise ValueError("a library's pass\nfell over")


def lies(graph: Graph) -> Graph:
    def edit(model: ir.Model) -> str:
        value = model.graph.initializers["w"]
        value.const_value = ir.tensor(value.const_value.numpy() * 1.5, name="w")
        return "all is well"

    return graph.changed("lies", edit)


def spoils(graph: Graph) -> Graph:
    def edit(model: ir.Model) -> str:
        next(iter(model.graph)).op_type = "NoSuchOperator"
        return "all is well"

    return graph.changed("spoils", edit)


def test_a_step_that_fails_or_changes_the_outputs_is_left_out_and_noted(tmp_path: Path) -> None:
    graph = matmul_graph()
    prepared = prepare(graph, [{"x": X}], (breaks, lies, spoils, remove_unused, name_nodes))
    assert details(prepared)["breaks"] == "left out: ValueError: a library's pass fell over"
    assert details(prepared)["lies"].startswith("left out: it changed the outputs (")
    assert details(prepared)["spoils"].startswith("left out: SessionError: ")
    same(graph, prepared, {"x": X}, tmp_path)


def test_a_prepared_model_carries_no_trace_of_the_machine_that_built_it(
    conv: Traced, feeds: dict[str, list[Feed]], tmp_path: Path
) -> None:
    prepare(conv.graph, feeds["conv"][:1]).save(tmp_path / "prepared.onnx")
    text = (tmp_path / "prepared.onnx").read_bytes()
    assert b"stack_trace" not in text
    assert b".py" not in text


def test_the_given_graph_is_not_edited(conv: Traced, lstm: Traced, feeds: dict[str, list[Feed]]) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=weight("", 8, 8))  # lifting it gives its tensor a name
    multiply = helper.make_node("MatMul", ["x", "w"], ["y"])
    lifted = graph_of([constant, multiply], [floats("x", "b", 8)], [floats("y", "b", 8)], [])
    cases = [(conv.graph, feeds["conv"][0]), (lstm.graph, feeds["lstm"][0])]
    for graph, feed in (*cases, (matmul_graph(opset=11), {"x": X}), (lifted, {"x": X})):
        before = ir.to_proto(graph.model).SerializeToString(deterministic=True)
        prepared = prepare(graph, [feed])
        middle = ir.to_proto(prepared.model).SerializeToString(deterministic=True)
        assert middle != before
        statistics = calibrate(prepared, [feed])
        for step in (remove_unused, upgrade_opset, fold_constants, fold_batchnorm, infer_shapes, name_nodes, unshare_weights):
            step(graph)
        fix_shapes(graph, {key: array.shape for key, array in feed.items()})
        try:
            quantize_static(prepared, StaticInt8(FLAVOURS["u8s7"], "minmax", "everything"), statistics.histograms)
        finally:
            assert ir.to_proto(graph.model).SerializeToString(deterministic=True) == before
            assert ir.to_proto(prepared.model).SerializeToString(deterministic=True) == middle


def subgraphs() -> Graph:
    """An If whose branches hold a MatMul each."""
    branches = {
        name: helper.make_graph(
            [helper.make_node("MatMul", ["h", f"w_{name}"], [name])],
            name,
            [],
            [floats(name, None, None)],
            [weight(f"w_{name}", 8, 8)],
        )
        for name in ("then", "else")
    }
    return graph_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("ReduceSum", ["h"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["positive"]),
            helper.make_node("If", ["positive"], ["y"], then_branch=branches["then"], else_branch=branches["else"]),
        ],
        [floats("x", "b", 8)],
        [floats("y", "b", 8)],
        [weight("w", 8, 8), numpy_helper.from_array(np.float32(0), "zero")],
    )


def sequences() -> Graph:
    return graph_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("SplitToSequence", ["h"], ["parts"], axis=1),
            helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=1),
        ],
        [floats("x", "b", 8)],
        [floats("y", "b", 8)],
        [weight("w", 8, 8)],
    )


def loops() -> Graph:
    truth = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("going", "goes")]
    body = helper.make_graph(
        [helper.make_node("MatMul", ["state", "w"], ["next"]), helper.make_node("Identity", ["going"], ["goes"])],
        "body",
        [helper.make_tensor_value_info("step", TensorProto.INT64, []), truth[0], floats("state", "b", 8)],
        [truth[1], floats("next", "b", 8)],
    )
    return graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Loop", ["count", "yes", "h"], ["y"], body=body)],
        [floats("x", "b", 8)],
        [floats("y", "b", 8)],
        [weight("w", 8, 8), numpy_helper.from_array(np.int64(2), "count"), numpy_helper.from_array(np.array(True), "yes")],
    )


def odd_types() -> Graph:
    """Integer and boolean outputs, and a weight without elements."""
    return graph_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Concat", ["h", "nothing"], ["y"], axis=1),
            helper.make_node("ArgMax", ["y"], ["best"], axis=1),
            helper.make_node("Greater", ["y", "zero"], ["positive"]),
        ],
        [floats("x", "b", 8)],
        [
            floats("y", "b", 8),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["b", 1]),
            helper.make_tensor_value_info("positive", TensorProto.BOOL, ["b", 8]),
        ],
        [
            weight("w", 8, 8),
            numpy_helper.from_array(np.zeros((2, 0), np.float32), "nothing"),
            numpy_helper.from_array(np.float32(0), "zero"),
        ],
    )


@pytest.mark.parametrize("build", [subgraphs, sequences, loops, odd_types])
def test_unusual_graphs_go_all_the_way(build: Callable[[], Graph], tmp_path: Path) -> None:
    graph = build()
    prepared = prepare(graph, [{"x": X}])
    same(graph, prepared, {"x": X}, tmp_path)
    assert not any(change.detail.startswith("left out") for change in prepared.changes)
    statistics = calibrate(prepared, [{"x": X}, {"x": X + 1}])
    assert {"x", "y"} <= statistics.histograms.keys()
    assert "parts" not in statistics.histograms
    for quantized in (
        quantize_static(prepared, StaticInt8(FLAVOURS["u8u8"], "minmax", "linear"), statistics.histograms),
        quantize_static(prepared, StaticInt8(FLAVOURS["u8u8"], "minmax", "everything"), statistics.histograms),
        quantize_dynamic(prepared, DynamicInt8(FLAVOURS["u8u8"])),
    ):
        wanted, got = run(graph, {"x": X}, tmp_path)["y"], run(quantized.graph, {"x": X}, tmp_path)["y"]
        assert np.abs(wanted - got).max() < 0.1 * np.abs(wanted).max()
