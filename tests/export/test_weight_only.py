"""Weights in blocks: the packing is what MatMulNBits reads, files shrink as promised, and nothing saturates."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import Graph, WeightOnly, quantize_as, quantize_weights
from edgekit_export.weight_only import in_blocks
from edgekit_runtime import load
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import QuantizationError

SCHEMES = st.builds(
    WeightOnly, bits=st.sampled_from([4, 8]), block=st.sampled_from([16, 32, 64, 128, 256]), symmetric=st.booleans()
)


def graph_of(nodes: list[Any], constants: dict[str, np.ndarray], width: int) -> Graph:
    given_, given_back = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", (None, width)), ("y", None))
    )
    inner = helper.make_graph(
        nodes, "g", [given_], [given_back], [numpy_helper.from_array(array, name) for name, array in constants.items()]
    )
    return Graph(ir.from_proto(helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)))


def run(graph: Graph, x: np.ndarray, folder: Path) -> np.ndarray:
    graph.save(folder / "model.onnx")
    return load(folder / "model.onnx")(x=x)["y"]


def unpacked(weight: np.ndarray, scheme: WeightOnly) -> np.ndarray:
    """What blocks stand for, ``(K, N)``, by the operator's specification."""
    blocks = in_blocks(weight, scheme)

    def wide(packed: np.ndarray, count: int) -> np.ndarray:
        if scheme.bits == 8:
            return packed.astype(np.float64)
        return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)[..., :count].astype(np.float64)

    columns, count = blocks.scales.shape
    points = np.full((columns, count), 1 << (scheme.bits - 1)) if blocks.zero_points is None else wide(blocks.zero_points, count)
    values = (wide(blocks.packed, scheme.block) - points[..., None]) * blocks.scales[..., None]
    return values.reshape(columns, -1)[:, : len(weight)].T


@given(
    scheme=SCHEMES, rows=st.integers(1, 300), columns=st.integers(1, 9), seed=st.integers(0, 999), shift=st.sampled_from([0.0, 3.0])
)
def test_every_weight_is_within_a_step(scheme: WeightOnly, rows: int, columns: int, seed: int, shift: float) -> None:
    weight = (np.random.default_rng(seed).standard_normal((rows, columns)) + shift).astype(np.float32)
    weight[:, 0] = 0.0
    got = unpacked(weight, scheme)
    steps = np.abs(in_blocks(weight, scheme).scales).repeat(scheme.block, axis=1)[:, :rows].T
    # Half a step of rounding; the symmetric grid ends one step lower on the side that its largest entry is not on, and the zero
    # point of the other is itself rounded. The rest is float32's own rounding.
    assert (np.abs(got - weight) <= steps * 1.0 + 1e-6).all()
    assert (got[:, 0] == 0).all()


@given(scheme=SCHEMES, rows=st.integers(1, 200), columns=st.integers(1, 20), seed=st.integers(0, 999))
def test_onnxruntime_reads_the_blocks_as_they_are_meant(scheme: WeightOnly, rows: int, columns: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    weight, x = draw.standard_normal((rows, columns)).astype(np.float32), draw.standard_normal((3, rows)).astype(np.float32)
    graph = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], {"w": weight}, rows)
    exact = WeightOnly(scheme.bits, scheme.block, scheme.symmetric, accuracy_level=1)
    with tempfile.TemporaryDirectory() as folder:
        got = run(quantize_weights(graph, exact).graph, x, Path(folder))
    # Sums of up to 200 products in float32.
    np.testing.assert_allclose(got, x @ unpacked(weight, scheme), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("scheme", "share", "least_db"),
    [
        # Gaussian weights, whose 4-bit error is the worst there is for smooth weights; and activations in 8 bits per block.
        (WeightOnly(4, 32), 0.16, 20.0),
        (WeightOnly(4, 128), 0.14, 18.0),
        (WeightOnly(4, 32, symmetric=False), 0.17, 20.5),
        (WeightOnly(8, 32), 0.29, 38.0),
        (WeightOnly(8, 128), 0.27, 37.0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_sizes_shrink_as_promised(scheme: WeightOnly, share: float, least_db: float, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    weights = {name: draw.standard_normal((384, 384)).astype(np.float32) / 20 for name in ("w", "v")}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="a"), helper.make_node("MatMul", ["h", "v"], ["y"], name="b")]
    graph, x = graph_of(nodes, weights, 384), draw.standard_normal((16, 384)).astype(np.float32)
    quantized = quantize_as(graph, scheme, sample=[{"x": x}])
    wanted, got = run(graph, x, tmp_path), None
    whole = (tmp_path / "model.onnx").stat().st_size
    got = run(quantized.graph, x, tmp_path)
    assert (tmp_path / "model.onnx").stat().st_size <= share * whole
    assert difference([{"y": got}], [{"y": wanted}]).sqnr_db > least_db - 3.0  # two layers' errors add up
    assert quantized.kind == f"int{scheme.bits}"


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("batch", [1, 16])
def test_the_largest_weights_by_the_largest_inputs_do_not_saturate(bits: int, batch: int, tmp_path: Path) -> None:
    weight, x = np.full((384, 64), 1.0, np.float32), np.full((batch, 384), 1.0, np.float32)
    weight[0] = -1.0  # the scale is of the largest entry's sign; here the largest entries lie on both sides
    graph = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], {"w": weight}, 384)
    got = run(quantize_weights(graph, WeightOnly(bits=bits)).graph, x, tmp_path)  # type: ignore[arg-type]
    # Half a step of each of 384 equal entries, all in one direction: 1/16 of each for 4 bits, 1/256 for 8.
    np.testing.assert_allclose(got, x @ weight, rtol=1 / 8 if bits == 4 else 1 / 100)


@given(
    turned=st.booleans(),
    alpha=st.sampled_from([1.0, 0.5]),
    beta=st.sampled_from([1.0, 2.0]),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_gemm_keeps_what_it_does_beside_the_product(turned: bool, alpha: float, beta: float, biased: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    weight, bias = draw.standard_normal((32, 8)).astype(np.float32), draw.standard_normal(8).astype(np.float32)
    x = draw.standard_normal((3, 32)).astype(np.float32)
    inputs = ["x", "w", "b"] if biased else ["x", "w"]
    node = helper.make_node("Gemm", inputs, ["y"], name="gemm", transB=int(turned), alpha=alpha, beta=beta)
    graph = graph_of([node], {"w": np.ascontiguousarray(weight.T) if turned else weight, **({"b": bias} if biased else {})}, 32)
    with tempfile.TemporaryDirectory() as folder:
        got = run(quantize_weights(graph, WeightOnly(bits=8, accuracy_level=1)).graph, x, Path(folder))
    wanted = alpha * (x @ weight) + (beta * bias if biased else 0)
    # 32 products, each with up to half of a 127th of the largest weight, about 3.
    np.testing.assert_allclose(got, wanted, atol=0.3)


def test_what_it_does_not_take_is_named() -> None:
    square = np.eye(8, dtype=np.float32)
    left = graph_of([helper.make_node("MatMul", ["w", "x"], ["y"], name="left")], {"w": square}, 8)
    with pytest.raises(QuantizationError, match=r"weights-int4-b32: the graph has no MatMul or Gemm .* belong to \['MatMul'\]"):
        quantize_weights(left, WeightOnly())
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="right"),
        helper.make_node("MatMul", ["v", "h"], ["y"], name="left"),
    ]
    some = quantize_weights(graph_of(nodes, {"w": square, "v": square}, 8), WeightOnly())
    assert (some.kind, [weight.node for weight in some.left_float]) == ("mixed", ["left"])
    assert any("left" in note for note in some.notes)
