"""`edgekit inspect` on small real models, quantized by onnxruntime's own quantizer."""

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from edgekit.commands.inspect import Inspection, inspect
from edgekit.inspection.optimized_graph import optimize
from edgekit_runtime.bundle import file_entry
from edgekit_runtime.errors import BundleError, GraphError
from edgekit_runtime.manifest import FORMAT, MANIFEST, Chosen, Manifest, encode_manifest
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.plugins import OPENVINO
from edgekit_runtime.session import Provider, SessionConfig
from edgekit_runtime.tensors import TensorSpec

logging.getLogger().setLevel(logging.ERROR)  # the quantizer's advice to preprocess
DRAW = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32) * 0.1


def save(path: Path, nodes, inputs, outputs, stored, opset: int = 21, **options) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, producer_name="test")
    onnx.save(model, path, **options)
    return path


def convolutions(path: Path, activation: str, opset: int = 21) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], name="stem", pads=[1] * 4),
        helper.make_node(activation, ["c"], ["a"], name="activation"),
        helper.make_node("Conv", ["a", "w2"], ["y"], name="head"),
    ]
    stored = {"w1": weights(16, 8, 3, 3), "w2": weights(16, 16, 1, 1)}
    return save(path, nodes, {"x": ["batch", 8, 8, 8]}, {"y": ["batch", 16, 8, 8]}, stored, opset)


class Feeds(CalibrationDataReader):
    def __init__(self, name: str, *shape: int) -> None:
        self.feeds = iter([{name: weights(*shape) * 10} for _ in range(3)])

    def get_next(self):
        return next(self.feeds, None)


def static(path: Path, shape: tuple[int, ...], **options) -> Path:
    quantized = path.with_name(f"{path.stem}-int8.onnx")
    options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True} | options
    quantize_static(path, quantized, Feeds("x", *shape), **options)
    return quantized


def names(inspection: Inspection) -> set[str]:
    return {note.name for note in inspection.notes}


def test_float_model(tmp_path):
    found = inspect(convolutions(tmp_path / "float.onnx", "Relu"))
    assert found.inputs == ["x float32[batch, 8, 8, 8]"]
    assert found.outputs == ["y float32[batch, 16, 8, 8]"]
    assert found.operators == {"Conv": 2, "Relu": 1}
    assert found.opsets == {"ai.onnx": 21}
    assert found.ir_version == 10
    assert found.producer == "test"
    assert found.weights.by_dtype["float32"].elements == 16 * 8 * 9 + 16 * 16
    assert found.weights.integer_share == 0.0
    assert not found.quantization.any
    assert found.optimized is not None
    assert "Relu" not in found.optimized.operators  # fused into the convolution
    assert found.notes == []
    assert found.bundle is None


def test_clean_int8_keeps_qdq_at_its_ends_only(tmp_path):
    found = inspect(static(convolutions(tmp_path / "relu.onnx", "Relu"), (1, 8, 8, 8)))
    assert found.quantization.kinds == ["qdq"]
    assert found.quantization.weights_per_channel == 2
    assert found.quantization.weight_types == {"int8": 2}
    assert set(found.quantization.activation_types) == {"uint8"}
    assert found.weights.integer_share > 0.8
    assert found.optimized.operators["com.microsoft.QLinearConv"] == 2
    assert found.optimized.surviving.inside == 0
    assert {row.operator for row in found.optimized.surviving.blockers} == {"graph input", "graph output"}
    assert found.optimized.islands == []
    assert names(found) == set()


def test_hardswish_is_named_as_what_keeps_qdq(tmp_path):
    found = inspect(static(convolutions(tmp_path / "hardswish.onnx", "HardSwish"), (1, 8, 8, 8)))
    surviving = found.optimized.surviving
    assert surviving.inside == 2
    blockers = {row.operator: row for row in surviving.blockers}
    # onnxruntime writes HardSwish as HardSigmoid and Mul before it runs it.
    assert blockers["HardSigmoid"].dequantize == 1
    assert blockers["Mul"].quantize == 1
    assert "HardSigmoid before it is float" in blockers["Mul"].why
    assert "c_DequantizeLinear" in blockers["HardSigmoid"].nodes[0]
    assert surviving.blockers[-1].operator in ("graph input", "graph output")
    (island,) = found.optimized.islands
    assert island.operators == {"HardSigmoid": 1, "Mul": 1}
    assert (island.dequantize, island.quantize) == (1, 1)
    assert names(found) == {"surviving-qdq", "float-activation-island"}


def test_per_tensor_and_requantization(tmp_path):
    found = inspect(static(convolutions(tmp_path / "tensor.onnx", "Relu"), (1, 8, 8, 8), per_channel=False))
    assert (found.quantization.weights_per_tensor, found.quantization.weights_per_channel) == (2, 0)
    two_scales = [
        helper.make_node("QuantizeLinear", ["x", "s1", "z"], ["q1"]),
        helper.make_node("DequantizeLinear", ["q1", "s1", "z"], ["d1"], name="from"),
        helper.make_node("QuantizeLinear", ["d1", "s2", "z2"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "s2", "z2"], ["y"]),
    ]
    stored = {"s1": np.float32(0.1), "s2": np.float32(0.3), "z": np.uint8(3), "z2": np.int8(3)}
    found = inspect(save(tmp_path / "two.onnx", two_scales, {"x": [4]}, {"y": [4]}, stored))
    rows = {row.operator: row for row in found.optimized.surviving.blockers}
    assert (rows["requantization"].quantize, rows["requantization"].dequantize) == (1, 1)


def lstm(path: Path, through_concat: bool = False) -> Path:
    stored = {"r": weights(1, 128, 32), "fc": weights(32, 64)}
    if through_concat:
        stored |= {"a": weights(1, 64, 16), "b": weights(1, 64, 16)}
        nodes = [helper.make_node("Concat", ["a", "b"], ["w"], axis=1)]
    else:
        stored |= {"w": weights(1, 128, 16)}
        nodes = []
    nodes += [
        helper.make_node("LSTM", ["x", "w", "r"], ["states", "last"], name="memory", hidden_size=32),
        helper.make_node("Squeeze", ["last", "axis"], ["state"]),
        helper.make_node("MatMul", ["state", "fc"], ["y"], name="fc"),
    ]
    stored["axis"] = np.array([0])
    return save(path, nodes, {"x": [5, 1, 16]}, {"y": [1, 64]}, stored)


def test_static_lstm_is_caught_in_float(tmp_path):
    found = inspect(static(lstm(tmp_path / "lstm.onnx"), (5, 1, 16)))
    (note,) = [note for note in found.notes if note.name == "lstm-weights-in-float"]
    assert "memory" in note.message
    assert "24.6 kB" in note.message
    assert "matmul-weights-in-float" not in names(found)


def test_dynamic_lstm_is_quantized_and_hidden_weights_are_named(tmp_path):
    plain, hidden = tmp_path / "plain.onnx", tmp_path / "hidden.onnx"
    quantize_dynamic(lstm(tmp_path / "a.onnx"), plain, weight_type=QuantType.QInt8)
    found = inspect(plain)
    assert "dynamic" in found.quantization.kinds
    assert names(found) == set()
    quantize_dynamic(lstm(tmp_path / "b.onnx", through_concat=True), hidden, weight_type=QuantType.QInt8)
    found = inspect(hidden)
    (note,) = [note for note in found.notes if note.name == "lstm-weights-in-float"]
    assert "through Concat" in note.message


def test_products_of_known_ranges_that_give_floats_are_not_dynamic(tmp_path):
    import edgekit

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
        helper.make_node("Add", ["product", "bias"], ["y"], name="sum"),
    ]
    path = save(
        tmp_path / "linear.onnx", nodes, {"x": ["batch", 16]}, {"y": ["batch", 8]}, {"w": weights(16, 8), "bias": weights(8)}
    )
    recipe = edgekit.Recipe(
        name="linear",
        model=path,
        example=lambda: {"x": weights(1, 16)},
        dynamic={"x": {0: "batch"}},
        outputs=["y"],
        calibration=lambda: [{"x": weights(1, 16)} for _ in range(8)],
    )
    found = {}
    for scheme in ("static-u8s7-minmax-weighted-floatoutputs", "dynamic-u8s7"):
        edgekit.quantize(recipe, scheme=scheme, out=tmp_path / f"{scheme}.onnx")
        found[scheme] = inspect(tmp_path / f"{scheme}.onnx")
    static_one, dynamic_one = found.values()
    assert "com.microsoft.MatMulIntegerToFloat" in static_one.operators
    assert static_one.quantization.kinds == ["qdq", "float-outputs"]
    assert dynamic_one.quantization.kinds == ["dynamic"]
    document = json.loads(json.dumps(static_one.document(), allow_nan=False))
    assert document["quantization"]["kinds"] == ["qdq", "float-outputs"]


def test_integers_from_outside_are_quantized_by_nobody_here(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), helper.make_node("MatMulInteger", ["t", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [16, 1])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 8])],
        [numpy_helper.from_array(np.ones((16, 8), np.int8), "w")],
    )
    path = tmp_path / "integers.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    assert inspect(path).quantization.kinds == ["qoperator"]


def test_a_plugin_compiles_and_gives_no_graph_to_look_at(tmp_path):
    path = convolutions(tmp_path / "conv.onnx", "Relu")
    seen = optimize(path, Provider(OPENVINO, {"precision": "f32"}), SessionConfig())
    assert seen.provider == "CPUExecutionProvider"
    assert "OpenVINOExecutionProvider compiles its nodes" in seen.fallback_reason
    assert seen.operators == inspect(path).optimized.operators


def test_convinteger_is_warned_about(tmp_path):
    path = tmp_path / "dynamic.onnx"
    quantize_dynamic(convolutions(tmp_path / "conv.onnx", "Relu"), path, op_types_to_quantize=["Conv"])
    found = inspect(path)
    assert found.quantization.kinds == ["dynamic"]
    assert "conv-integer" in names(found)


def test_weights_in_constant_nodes(tmp_path):
    held = numpy_helper.from_array(weights(64, 64), "w")
    nodes = [helper.make_node("Constant", [], ["w"], value=held), helper.make_node("MatMul", ["x", "w"], ["y"])]
    found = inspect(save(tmp_path / "constant.onnx", nodes, {"x": [1, 64]}, {"y": [1, 64]}, {}))
    assert found.weights.in_constant_nodes.size_bytes == 64 * 64 * 4
    assert found.weights.by_dtype["float32"].tensors == 1
    assert names(found) == {"weights-in-constant-nodes"}


def test_per_channel_below_opset_13_is_explained(tmp_path):
    stored = {"w": np.ones((4, 4), np.int8), "s": np.full(4, 0.1, np.float32), "z": np.zeros(4, np.int8)}
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0), helper.make_node("MatMul", ["x", "d"], ["y"])]
    found = inspect(save(tmp_path / "old.onnx", nodes, {"x": [1, 4]}, {"y": [1, 4]}, stored, opset=12))
    assert found.optimized is None
    assert {"per-channel-below-opset-13", "onnxruntime-refuses"} <= names(found)
    assert found.quantization.kinds == ["weight-only"]
    assert found.notes[0].severity == "problem"


def test_external_data(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(
        tmp_path / "large.onnx", nodes, {"x": [1, 64]}, {"y": [1, 64]}, {"w": weights(64, 64)},
        save_as_external_data=True, location="large.data", size_threshold=0,
    )  # fmt: skip
    found = inspect(path)
    assert found.weights.in_external_files.size_bytes == 64 * 64 * 4
    assert found.size_bytes == path.stat().st_size + (tmp_path / "large.data").stat().st_size
    (tmp_path / "large.data").write_bytes(b"short")
    with pytest.raises(GraphError, match=r"large\.data has 5 bytes"):
        inspect(path)
    (tmp_path / "large.data").unlink()
    with pytest.raises(GraphError, match=r"large\.data, which is not beside it"):
        inspect(path)


@pytest.mark.parametrize("data", [b"", b"not a model at all", bytes(range(256)) * 20], ids=["empty", "text", "noise"])
def test_what_is_no_model(tmp_path, data):
    path = tmp_path / "broken.onnx"
    path.write_bytes(data)
    with pytest.raises(GraphError, match=r"broken\.onnx") as caught:
        inspect(path)
    assert "\n" not in str(caught.value)


def test_truncated_model(tmp_path):
    path = convolutions(tmp_path / "cut.onnx", "Relu")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GraphError, match="damaged"):
        inspect(path)


def test_damage_anywhere_never_ends_in_a_traceback(tmp_path):
    sound = static(convolutions(tmp_path / "sound.onnx", "HardSwish"), (1, 8, 8, 8)).read_bytes()
    path = tmp_path / "flipped.onnx"
    refusals = []
    for position in range(0, len(sound), 61):
        data = bytearray(sound)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        try:
            inspect(path)
        except GraphError as error:
            refusals.append(str(error))
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_missing_file_and_plain_folder(tmp_path):
    with pytest.raises(GraphError, match="no such file"):
        inspect(tmp_path / "nothing.onnx")
    with pytest.raises(GraphError, match=r"without a manifest\.json"):
        inspect(tmp_path)


@pytest.fixture
def bundle(tmp_path) -> Path:
    folder = tmp_path / "small.edge"
    folder.mkdir()
    convolutions(folder / "model.onnx", "Relu")
    manifest = Manifest(
        format=FORMAT,
        name="small",
        created="2026-01-01T00:00:00Z",
        model="model.onnx",
        inputs=[TensorSpec("x", "float32", ("batch", 8, 8, 8))],
        outputs=[TensorSpec("y", "float32", ("batch", 16, 8, 8))],
        target="host",
        provider=Provider(),
        session=SessionConfig(graph_optimization="basic"),
        preprocessing={},
        isa={},
        onnxruntime="1.22",
        chosen=Chosen("float32", "float32", "nothing was faster", True, Measurement(latency_ms=1.0)),
        baseline=Measurement(),
        tools={},
        files={"model.onnx": file_entry(folder / "model.onnx")},
    )
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    return folder


def test_bundle(bundle):
    found = inspect(bundle)
    assert found.bundle is not None
    assert (found.bundle.target, found.bundle.verdict, found.bundle.chosen) == ("host", "float32", "float32")
    assert "all 1 files" in found.bundle.hashes
    assert found.model == "model.onnx"
    assert found.optimized.level == "basic"


def test_bundle_of_a_provider_that_is_not_here(bundle):
    manifest = bundle / MANIFEST
    text = manifest.read_bytes().split(b',\n  "sha256": ')[0].replace(b"CPUExecutionProvider", b"NobodysExecutionProvider")
    import hashlib

    seal = hashlib.sha256(text).hexdigest().encode()
    manifest.write_bytes(text + b',\n  "sha256": "' + seal + b'"\n}\n')
    found = inspect(bundle)
    assert found.optimized.provider == "CPUExecutionProvider"
    assert "NobodysExecutionProvider" in found.optimized.fallback_reason
    assert "other-provider" in names(found)


def test_damaged_bundle(bundle):
    model = bundle / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.onnx is damaged"):
        inspect(bundle)


def test_document_is_plain_finite_json(tmp_path, bundle):
    for path in (bundle, static(convolutions(tmp_path / "h.onnx", "HardSwish"), (1, 8, 8, 8))):
        document = inspect(path).document()
        assert json.loads(json.dumps(document, allow_nan=False)) == document
