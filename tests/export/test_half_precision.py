"""16-bit floats: what they do to masks, what stays in float32, and whether this machine has kernels for them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import BFloat16, Float16, Graph, quantize_as
from edgekit_export.half_precision import has_half_kernels
from edgekit_runtime import load
from edgekit_runtime.errors import QuantizationError


def graph_of(nodes: list[Any], constants: dict[str, np.ndarray], *shape: Any) -> Graph:
    inner = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return Graph(ir.from_proto(helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)))


SQUARE = np.eye(16, dtype=np.float32)


def test_a_mask_of_minus_the_largest_float_stays_finite(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="a"), helper.make_node("Add", ["h", "mask"], ["m"], name="b")]
    nodes.append(helper.make_node("Softmax", ["m"], ["y"], name="c"))
    mask = np.where(np.arange(16) < 8, 0, np.finfo(np.float32).min).astype(np.float32)
    quantized = quantize_as(graph_of(nodes, {"w": SQUARE, "mask": mask}, None, 16), Float16())
    quantized.graph.save(tmp_path / "half.onnx")
    got = load(tmp_path / "half.onnx")(x=np.ones((2, 16), np.float32))["y"]
    np.testing.assert_allclose(got, np.tile(np.where(np.arange(16) < 8, 1 / 8, 0), (2, 1)), atol=1e-3)  # a half's own precision


def test_resize_and_ranges_stay_in_float32(tmp_path: Path) -> None:
    """Resize takes its scales in float32 only."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], name="conv"),
        helper.make_node("Resize", ["h", "", "scales"], ["y"], name="resize", mode="nearest"),
    ]
    constants = {"w": np.ones((4, 3, 1, 1), np.float32), "scales": np.asarray([1, 1, 2, 2], np.float32)}
    quantized = quantize_as(graph_of(nodes, constants, None, 3, 4, 4), Float16())
    quantized.graph.save(tmp_path / "half.onnx")
    got = load(tmp_path / "half.onnx")(x=np.ones((1, 3, 4, 4), np.float32))["y"]
    assert got.shape == (1, 4, 8, 8)
    assert (got == 3).all()


@pytest.mark.parametrize("scheme", [Float16(stored=True), BFloat16(stored=True)])
def test_stored_weights_are_half_the_file(scheme: Float16 | BFloat16, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    graph = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="a")], {"w": weight}, None, 256)
    quantized = quantize_as(graph, scheme)
    for one, name in ((graph, "float.onnx"), (quantized.graph, "half.onnx")):
        one.save(tmp_path / name)
    assert (tmp_path / "half.onnx").stat().st_size < 0.51 * (tmp_path / "float.onnx").stat().st_size
    x = np.random.default_rng(1).standard_normal((4, 256)).astype(np.float32)
    wanted, got = (load(tmp_path / name)(x=x)["y"] for name in ("float.onnx", "half.onnx"))
    # A weight of 11 significant bits is off by at most one part in 2¹¹, one of 8 by one in 2⁸; float32's own rounding comes on top.
    share = 2.0**-11 if isinstance(scheme, Float16) else 2.0**-8
    assert (np.abs(got - wanted) <= share * (np.abs(x) @ np.abs(weight)) + 1e-4).all()


def test_branches_are_refused() -> None:
    branch = helper.make_graph([helper.make_node("Relu", ["h"], ["r"])], "b", [], [helper.make_tensor_value_info("r", 1, None)])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="a"),
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branch, else_branch=branch),
    ]
    graph = graph_of(nodes, {"w": SQUARE, "yes": np.asarray(True)}, None, 16)
    with pytest.raises(QuantizationError, match=r"float16: the graph has branches or loops"):
        quantize_as(graph, Float16())


def test_recurrent_layers_are_refused_but_can_be_stored(
    prepared: dict[str, Graph], feeds: dict[str, list[dict[str, np.ndarray]]]
) -> None:
    with pytest.raises(QuantizationError, match=r"float16: onnxruntime has no 16-bit LSTM, .*; float16-stored makes"):
        quantize_as(prepared["lstm"], Float16())
    assert quantize_as(prepared["lstm"], Float16(stored=True), sample=feeds["lstm"]).kind == "float16"


def test_kernels_are_found_by_trying() -> None:
    """A provider that is not installed has none, and the note of a float16 graph agrees with what was found."""
    assert not has_half_kernels("float16", "NoSuchProvider")
    graph = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="a")], {"w": SQUARE}, None, 16)
    told = any("no float16 matrices" in note for note in quantize_as(graph, Float16()).notes)
    assert told == (not has_half_kernels("float16"))
