"""Embedding tables in 8 bits: near, four times smaller, and only where nothing is lost by it."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import FLAVOURS, DynamicInt8, Graph, StaticInt8, WeightOnly, calibrate, quantize_as
from edgekit_export.embeddings import LEAST_SQNR_DB, integer_tables
from edgekit_export.weights import weights
from edgekit_runtime import load

ROWS, WIDTH = 600, 64
U8S7 = FLAVOURS["u8s7"]
SCHEMES = [DynamicInt8(U8S7), StaticInt8(U8S7, "minmax", "weighted"), StaticInt8(U8S7, "minmax", "everything"), WeightOnly(bits=8)]


def model(table: np.ndarray, *further: Any, constants: dict[str, np.ndarray] | None = None, output: str = "rows") -> Graph:
    """Looks ``ids`` up in a table; `further` nodes work on ``rows``."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["rows"], name="lookup"), *further]
    held = {"table": table, **(constants or {})}
    inner = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ("batch", "time"))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
        value_info=[helper.make_tensor_value_info("rows", TensorProto.FLOAT, ("batch", "time", table.shape[1]))],
    )
    return Graph(ir.from_proto(helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)))


def words(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (draw.standard_normal((rows, WIDTH)) * draw.lognormal(0, 1, (rows, 1))).astype(np.float32)


def tied() -> Graph:
    """A language model in small: the table that looks words up also scores them, transposed."""
    table = words()
    return model(
        table,
        helper.make_node("MatMul", ["rows", "turned"], ["y"], name="scores"),
        constants={"turned": table.T.copy()},
        output="y",
    )


IDS = {"ids": np.asarray([[0, 5, 599], [3, 3, 7]])}


@given(seed=st.integers(0, 999), rows=st.integers(256, 400), spread=st.sampled_from([1e-6, 1.0, 1e6]))
def test_each_row_is_within_half_of_its_own_step(seed: int, rows: int, spread: float) -> None:
    table = words(rows, seed) * np.float32(spread)
    table[1] = 0.0
    found = integer_tables(model(table))
    assert (found.converted, found.kept) == (("table",), {})
    with tempfile.TemporaryDirectory() as folder:
        found.graph.save(Path(folder) / "model.onnx")
        got = load(Path(folder) / "model.onnx")(ids=np.arange(rows)[None])["rows"][0]
    steps = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(got - table) <= steps * 0.501).all()
    assert (got[1] == 0).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_every_integer_scheme_shrinks_them_unless_told_not_to(scheme: Any, tmp_path: Path) -> None:
    graph = tied()
    histograms = calibrate(graph, [IDS]).histograms
    sizes = []
    for one in (scheme, replace(scheme, tables=False)):
        quantized = quantize_as(graph, one, histograms, [IDS])
        quantized.graph.save(tmp_path / "model.onnx")
        sizes.append((tmp_path / "model.onnx").stat().st_size)
        assert "Gather" not in {weight.operator for weight in quantized.left_float} or not one.tables
    graph.save(tmp_path / "model.onnx")
    whole = (tmp_path / "model.onnx").stat().st_size
    assert sizes[0] < 0.30 * whole
    if scheme.name != "static-u8s7-minmax-everything":  # onnxruntime's own quantizer takes tables there
        assert sizes[1] > 0.60 * whole
        assert quantized.kind == "mixed"


def test_a_table_that_a_product_reads_too_is_handled(tmp_path: Path) -> None:
    """Tied weights are one initializer in the file; the lookup and the product each get their own form."""
    table = words(WIDTH * 5)
    turned = [helper.make_node("Gemm", ["flat", "table"], ["y"], name="scores", transB=1)]
    flat = helper.make_node("Reshape", ["rows", "shape"], ["flat"], name="flat")
    graph = model(table, flat, *turned, constants={"shape": np.asarray([-1, WIDTH])}, output="y")
    assert integer_tables(graph).converted == ()  # what the product reads would stay beside it
    quantized = quantize_as(graph, DynamicInt8(U8S7), sample=[IDS | {"ids": IDS["ids"] % 320}])
    assert (quantized.kind, quantized.left_float) == ("int8", ())


def test_rows_that_8_bits_would_ruin_stay_float_and_are_named() -> None:
    table = np.full((ROWS, 384), 0.49 / 127, np.float32)
    table[:, 0] = 1.0  # of which all others are just less than half a step
    graph = model(table, helper.make_node("MatMul", ["rows", "w"], ["y"], name="m"), constants={"w": words(384)}, output="y")
    found = integer_tables(graph)
    assert found.converted == ()
    assert 20.0 < found.kept["table"] < LEAST_SQNR_DB
    quantized = quantize_as(graph, DynamicInt8(U8S7), sample=[IDS])
    assert quantized.kind == "mixed"
    assert any("embedding table table" in note and "dB" in note for note in quantized.notes)


def test_small_tables_other_axes_and_integer_ones_are_left() -> None:
    assert integer_tables(model(words(100))).converted == ()
    converted = integer_tables(model(words(20_000))).graph
    assert weights(converted) == []
    assert integer_tables(converted).graph is converted
    assert integer_tables(model(words()), spared=["lookup"]).converted == ()
    assert integer_tables(model(words()), only=[]).converted == ()
