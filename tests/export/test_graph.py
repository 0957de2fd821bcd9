"""Reading, writing and describing graphs, and models whose weights lie in a file beside them."""

from dataclasses import FrozenInstanceError
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
    calibrate,
    optimize_float,
    prepare,
    quantize_dynamic,
    quantize_static,
)
from edgekit_export.passes import infer_shapes, upgrade_opset
from edgekit_export.saving import save_aside
from edgekit_runtime import load
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.errors import GraphError, OutputError

X = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)


def model_of(opset: int = 17, shape: tuple[int | str, ...] | None = ("batch", 64)) -> onnx.ModelProto:
    """A matrix product with a weight of 16 kB."""
    weight = numpy_helper.from_array(np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """The model with its weight in another file, in a folder of its own."""
    (tmp_path / "given").mkdir()
    path = tmp_path / "given" / "large.onnx"
    onnx.save(model_of(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


@pytest.fixture
def tiny_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a protobuf held 8 kB at most."""
    monkeypatch.setattr("edgekit_export.graph.EXTERNAL_DATA_BYTES", 8_000)


def wanted(feed: np.ndarray = X) -> np.ndarray:
    return np.maximum(feed @ numpy_helper.to_array(model_of().graph.initializer[0]), 0)


def agrees(path: Path) -> bool:
    return bool(np.allclose(load(path)(x=X)["y"], wanted(), atol=1e-4))


def test_what_it_takes_and_gives(tmp_path: Path) -> None:
    onnx.save(model_of(), tmp_path / "m.onnx")
    graph = Graph.read(tmp_path / "m.onnx")
    assert [str(spec) for spec in graph.inputs] == ["x float32[batch, 64]"]
    assert [str(spec) for spec in graph.outputs] == ["y float32[batch, 64]"]
    assert graph.opset == 17
    assert graph.operators() == {"MatMul": 1, "Relu": 1}
    assert not graph.oversized


def test_a_change_leaves_the_graph_as_it_was() -> None:
    graph = Graph(ir.from_proto(model_of()))

    def rename(model: ir.Model) -> str:
        model.graph.name = "other"
        return "renamed"

    changed = graph.changed("rename", rename)
    assert (graph.model.graph.name, graph.changes) == ("g", ())
    assert changed.model.graph.name == "other"
    assert graph.changed("nothing", lambda _: None) is graph
    with pytest.raises(FrozenInstanceError):
        graph.changes = ()  # type: ignore[misc]


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"there is no such file"):
        Graph.read(tmp_path / "absent.onnx")
    data = model_of().SerializeToString()
    unknown = model_of()
    unknown.graph.node[0].op_type = "NoSuchOperator"
    dangling = model_of()
    dangling.graph.node[0].input[0] = "nowhere"
    for name, content in {
        "empty": b"",
        "text": b"hello",
        "truncated": data[: len(data) // 2],
        "operator": unknown.SerializeToString(),
        "dangling": dangling.SerializeToString(),
    }.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(GraphError, match=rf"{name}.onnx: not a sound ONNX model: .*export it again") as caught:
            Graph.read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(GraphError, match="not a sound ONNX model"):
        Graph.read(tmp_path)


def test_inputs_that_are_no_tensors_with_a_rank() -> None:
    with pytest.raises(GraphError, match="'x' has no rank"):
        _ = Graph(ir.from_proto(model_of(shape=None))).inputs
    sequence = model_of()
    sequence.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None))
    with pytest.raises(GraphError, match=r"'x' is Sequence.*, expected a tensor"):
        _ = Graph(ir.from_proto(sequence)).inputs


def test_weights_in_another_file_come_along(external: Path, tmp_path: Path) -> None:
    """A graph no longer needs the files it was read from, and saves as one file where that holds it."""
    graph = Graph.read(external)
    (external.parent / "weights.bin").unlink()
    graph.save(tmp_path / "one.onnx")
    assert agrees(tmp_path / "one.onnx")
    assert not (tmp_path / "one.onnx.data").exists()
    prepared = prepare(graph, [{"x": X}])
    statistics = calibrate(prepared, [{"x": X}])
    for quantized in (
        quantize_static(prepared, StaticInt8(FLAVOURS["u8u8"], "minmax", "weighted"), statistics.histograms),
        quantize_dynamic(prepared, DynamicInt8(FLAVOURS["u8u8"])),
    ):
        assert quantized.kind == "int8"


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "sub/../../outside.bin", "link.bin"])
def test_weights_outside_the_models_folder_are_refused(external: Path, tmp_path: Path, location: str) -> None:
    (tmp_path / "outside.bin").write_bytes(b"\0" * 64 * 64 * 4)
    (external.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    proto = onnx.load(external, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    external.write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError, match=r"large.onnx: not a sound ONNX model"):
        Graph.read(external)


def test_weights_that_are_missing_or_cut_off_are_told(external: Path) -> None:
    weights = external.parent / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(GraphError, match=r"large.onnx: not a sound ONNX model"):
        Graph.read(external)
    weights.unlink()
    with pytest.raises(GraphError, match=r"large.onnx: not a sound ONNX model.*weights.bin"):
        Graph.read(external)


@pytest.mark.usefixtures("tiny_limit")
def test_large_weights_go_to_a_file_beside_the_model(tmp_path: Path) -> None:
    graph = Graph(ir.from_proto(model_of()))
    assert graph.oversized
    graph.save(tmp_path / "m.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx.data").stat().st_size >= 64 * 64 * 4
    assert size_bytes(tmp_path / "m.onnx") >= 64 * 64 * 4
    assert agrees(tmp_path / "m.onnx")
    assert graph.model.graph.initializers["w"].const_value is not None
    again = Graph.read(tmp_path / "m.onnx")
    again.save(tmp_path / "m.onnx")  # over the files that it came from
    assert agrees(tmp_path / "m.onnx")


@pytest.mark.usefixtures("tiny_limit")
def test_large_models_go_all_the_way(external: Path, tmp_path: Path) -> None:
    graph = Graph.read(external)
    prepared = prepare(graph, [{"x": X}])
    assert not [change for change in prepared.changes if change.detail.startswith("left out")]
    statistics = calibrate(prepared, [{"x": X}])
    for quantized in (
        quantize_static(prepared, StaticInt8(FLAVOURS["u8u8"], "minmax", "weighted"), statistics.histograms),
        quantize_dynamic(prepared, DynamicInt8(FLAVOURS["u8u8"])),
    ):
        quantized.graph.save(tmp_path / "int8.onnx")
        assert np.allclose(load(tmp_path / "int8.onnx")(x=X)["y"], wanted(), atol=0.5)
    assert optimize_float(prepared).changes[-1].detail == "left to the device: over 2 GB"


def test_large_weights_do_not_pass_through_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its C++ functions cannot take 2 GB: they see large weights as inputs, and the weights are back afterwards."""
    seen: list[int] = []
    convert, infer = onnx.version_converter.convert_version, onnx.shape_inference.infer_shapes
    monkeypatch.setattr(onnx.version_converter, "convert_version", lambda m, v: (seen.append(m.ByteSize()), convert(m, v))[1])
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", lambda m, **k: (seen.append(m.ByteSize()), infer(m, **k))[1])
    graph = Graph(ir.from_proto(model_of(opset=11)))
    result = infer_shapes(upgrade_opset(graph))
    assert result.opset == 17
    assert len(seen) == 2
    assert max(seen) < 2_000
    assert [value.name for value in result.model.graph.inputs] == ["x"]
    assert result.model.graph.initializers["w"].const_value is graph.model.graph.initializers["w"].const_value


def test_saving_where_it_cannot_be_saved(tmp_path: Path) -> None:
    graph = Graph(ir.from_proto(model_of()))
    with pytest.raises(OutputError, match="No such file or directory"):
        graph.save(tmp_path / "absent" / "m.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(OutputError, match="it is a directory"):
        save_aside(graph, tmp_path / "folder.onnx")
    with pytest.raises(OutputError, match=r"expected a name that ends in .onnx"):
        save_aside(graph, tmp_path / "model.bin")
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(OutputError, match=r"write .*m.onnx: "):
        save_aside(graph, tmp_path / "file" / "m.onnx")


def test_saving_aside_spares_the_source_and_leaves_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, path = Graph(ir.from_proto(model_of())), tmp_path / "sub" / "m.onnx"
    save_aside(graph, path)
    assert agrees(path)
    with pytest.raises(OutputError, match="that is the model it is made from"):
        save_aside(graph, path, source=tmp_path / "sub" / ".." / "sub" / "m.onnx")

    def full(self: Graph, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Graph, "save", full)
    with pytest.raises(OutputError, match=r"m.onnx: no space left on the device \(.* MB free\)"):
        save_aside(graph, path)
    assert [file.name for file in path.parent.iterdir()] == ["m.onnx"]
    assert agrees(path)


def test_saving_a_large_model_aside_brings_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(ir.from_proto(model_of()))
    with monkeypatch.context() as tiny:
        tiny.setattr("edgekit_export.graph.EXTERNAL_DATA_BYTES", 8_000)
        save_aside(graph, tmp_path / "m.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert agrees(tmp_path / "m.onnx")
    save_aside(graph, tmp_path / "m.onnx")  # one file again: data of a model that is gone would count as its size
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert agrees(tmp_path / "m.onnx")
