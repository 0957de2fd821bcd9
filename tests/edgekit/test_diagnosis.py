"""Why a model is wrong: faults planted in small networks, which onnxruntime's own quantizer quantizes."""

import json
import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from edgekit.diagnosis.findings import LEAST_IMPACT, Diagnosis, Finding, ranked
from edgekit.diagnosis.input_mismatch import find_mismatch
from edgekit.diagnosis.quantized_tensors import Rounding
from edgekit.diagnosis.why_wrong import why_wrong
from edgekit_runtime.accuracy import difference
from edgekit_runtime.machine import machine
from edgekit_runtime.manifest import InputRange
from edgekit_runtime.model import Model
from edgekit_runtime.session import SessionConfig, open_session

logging.getLogger().setLevel(logging.ERROR)  # the quantizer's advice to preprocess
ONE = SessionConfig(threads=1)
SIDE = 12


def pictures(count: int, seed: int = 0, scale: float = 1.0, offset: float = 0.0) -> list[dict[str, np.ndarray]]:
    """Blurred noise with three channels of unlike brightness."""
    draw = np.random.default_rng(seed)
    feeds = []
    for _ in range(count):
        rough = draw.normal(size=(1, 3, SIDE + 2, SIDE + 2))
        smooth = sum(rough[:, :, i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)) / 3
        image = smooth + np.array([0.8, 0.1, -0.6])[:, None, None]
        feeds.append({"x": (image * scale + offset).astype(np.float32)})
    return feeds


def network(path: Path, stretched: float = 1.0) -> Path:
    """Conv, Relu, Conv, Relu, Conv; a channel behind the first Relu can be stretched without changing what is computed."""
    draw = np.random.default_rng(1)
    widths = (3, 16, 16, 8)
    stored = {f"w{i}": draw.normal(size=(b, a, 3, 3)) / np.sqrt(4.5 * a) for i, (a, b) in enumerate(pairwise(widths))}
    stored["w0"][5] *= stretched
    stored["w1"][:, 5] /= stretched
    nodes, value = [], "x"
    for index in range(3):
        output = "y" if index == 2 else f"c{index}"
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [output], name=f"conv{index}", pads=[1] * 4))
        if index < 2:
            nodes.append(helper.make_node("Relu", [output], [f"r{index}"], name=f"relu{index}"))
        value = f"r{index}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, SIDE, SIDE])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Feeds(CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def quantized(path: Path, feeds, **options) -> Path:
    given = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True, "reduce_range": True}
    out = path.with_name(f"{path.stem}-int8.onnx")
    quantize_static(path, out, Feeds(feeds), **given | options)
    return out


def asked(path: Path, integers: Path, feeds, **known):
    return why_wrong(integers, session=ONE, feeds=feeds, float_path=path, **known)


def names(found) -> list[str]:
    return [finding.name for finding in found.findings]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A float network and its int8 file, calibrated on what it is used on."""
    path = network(tmp_path_factory.mktemp("sound") / "sound.onnx")
    return path, quantized(path, pictures(32, seed=5))


def test_healthy_network_has_no_fault(sound):
    found = asked(*sound, pictures(8), calibration=pictures(8, seed=5))
    assert found.sqnr_db > 30
    assert set(names(found)) <= {"sensitive-layers", "activations-rounded", "weights-rounded"}
    assert sum(finding.impact for finding in found.findings) <= 10 ** (-found.sqnr_db / 20) * 1.01


def test_shares_of_the_error_add_up_to_it(sound):
    found = asked(*sound, pictures(8))
    assert sum(finding.impact for finding in found.findings) == pytest.approx(10 ** (-found.sqnr_db / 20), rel=0.35)


@pytest.mark.parametrize("scale", [0.2, 6.0], ids=["dark", "glaring"])
def test_bad_calibration_set_comes_first(tmp_path, scale):
    path = network(tmp_path / "net.onnx")
    bad = pictures(32, seed=5, scale=scale)
    # With labels the metric tells that the inputs are right as they are, and calibration's are not.
    wanted = [Model(open_session(path, config=ONE), path)(feed) for feed in pictures(2)]

    def score(run) -> float:
        return -difference([run(feed) for feed in pictures(2)], wanted).rms_diff

    found = asked(path, quantized(path, bad), pictures(8), calibration=bad[:8], score=score)
    first = found.findings[0]
    assert first.name == "calibration-unlike-evaluation"
    assert "x" in first.nodes
    assert first.impact > 5 * max((finding.impact for finding in found.findings[1:]), default=0)


def test_ranges_too_narrow_and_too_wide_without_calibration_data(tmp_path):
    path = network(tmp_path / "net.onnx")
    narrow = asked(path, quantized(path, pictures(16, seed=5, scale=0.3)), pictures(6))
    assert narrow.findings[0].name == "saturated-ranges"
    wide = asked(path, quantized(path, pictures(16, seed=5, scale=8)), pictures(6))
    assert wide.findings[0].name == "wasted-ranges"


def test_outlier_channel_comes_first_and_is_named(tmp_path):
    path = network(tmp_path / "net.onnx", stretched=200)
    found = asked(path, quantized(path, pictures(16, seed=5)), pictures(6))
    first = found.findings[0]
    assert first.name == "outlier-channels"
    assert any("channel 5" in line for line in first.evidence)
    assert "equalized" in first.advice


def test_one_scale_for_outlying_weights(tmp_path):
    path = network(tmp_path / "net.onnx", stretched=1.0)
    proto = onnx.load(path)
    weight = numpy_helper.to_array(proto.graph.initializer[2]).copy()
    weight[2] *= 100
    proto.graph.initializer[2].CopyFrom(numpy_helper.from_array(weight, "w2"))
    onnx.save(proto, path)
    # The outputs' own range is as uneven, so that the loud channel is left out of what is compared.
    per_tensor = asked(path, quantized(path, pictures(16, seed=5), per_channel=False), pictures(6))
    assert "outlier-weights" in names(per_tensor) or "outlier-channels" in names(per_tensor)
    per_channel = asked(path, quantized(path, pictures(16, seed=5)), pictures(6))
    assert "outlier-weights" not in names(per_channel)


def test_saturating_sums_are_told_where_the_processor_has_them(tmp_path):
    path = network(tmp_path / "net.onnx")
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:  # weights of one sign and size fill the sums
        tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), 0.01), tensor.name))
    onnx.save(proto, path)
    bright = pictures(16, seed=5, offset=6)
    found = asked(path, quantized(path, bright, reduce_range=False), bright[:6])
    saturates = machine().architecture == "x86_64" and "vnni" not in machine().isa
    assert ("saturating-sums" in names(found)) == saturates
    assert "saturating-sums" not in names(asked(path, quantized(path, bright), bright[:6]))


@pytest.mark.parametrize(
    ("scale", "offset", "words"),
    [(255.0, 0.0, "divided by 255"), (127.5, 127.5, "divided by 127.5, less 1"), (40.0, 11.0, "times 0.025")],
)
def test_preprocessing_mismatch_names_the_change(sound, scale, offset, words):
    found = asked(*sound, pictures(8, scale=scale, offset=offset), calibration=pictures(8, seed=5))
    first = found.findings[0]
    assert first.name == "preprocessing-mismatch"
    assert words in first.title
    assert first.impact > 0.5


def test_channels_in_reverse_order(sound):
    swapped = [{"x": np.ascontiguousarray(feed["x"][:, ::-1])} for feed in pictures(8)]
    found = asked(*sound, swapped, calibration=pictures(8, seed=5))
    assert found.findings[0].name == "preprocessing-mismatch"
    assert "reverse order" in found.findings[0].title


def test_the_manifest_alone_tells_a_wrong_scale(sound):
    _, integers = sound
    ranges = {"x": InputRange(-4.0, 4.0)}
    found = why_wrong(integers, session=ONE, feeds=pictures(4, scale=255), ranges=ranges)
    assert names(found) == ["preprocessing-mismatch"]
    assert found.sqnr_db is None
    assert any("--against" in note for note in found.notes)
    assert why_wrong(integers, session=ONE, feeds=pictures(4), ranges=ranges).findings == []


@given(seed=st.integers(0, 10_000), contrast=st.floats(0.8, 1.25), brightness=st.floats(-0.3, 0.3))
@settings(max_examples=30)
def test_other_pictures_are_no_mismatch(seed, contrast, brightness):
    others = pictures(12, seed=seed, scale=contrast, offset=brightness)
    assert find_mismatch(others, pictures(12, seed=seed + 1), {}) is None


@given(
    seed=st.integers(0, 10_000), scale=st.floats(3, 300) | st.floats(0.003, 0.3), offset=st.floats(-2, 2), by_range=st.booleans()
)
@settings(max_examples=30)
def test_mending_brings_inputs_near_to_calibrations(seed, scale, offset, by_range):
    known = pictures(12, seed=seed + 1)
    low, high = min(feed["x"].min() for feed in known), max(feed["x"].max() for feed in known)
    given_feeds = pictures(12, seed=seed, scale=scale, offset=offset * scale)
    found = find_mismatch(given_feeds, [] if by_range else known, {"x": InputRange(float(low), float(high))} if by_range else {})
    assert found is not None
    mended = np.concatenate([found.mend(feed)["x"] for feed in given_feeds])
    wanted = np.concatenate([feed["x"] for feed in known])
    if by_range:
        assert (mended.min(), mended.max()) == pytest.approx((low, high), abs=0.3 * float(high - low))
    else:
        assert abs(mended.mean() - wanted.mean()) < 0.6 * wanted.std()
        assert 0.6 < mended.std() / wanted.std() < 1.6


@given(low=st.floats(-100, 0), span=st.floats(0.01, 200))
def test_a_fitted_range_holds_its_values(low, span):
    fitted = Rounding("x", 1.0, 0, 0, 255).fitted(low, low + span)
    assert fitted.low <= low + fitted.scale
    assert fitted.high >= low + span - fitted.scale
    assert fitted.low <= 0 <= fitted.high


def test_what_cannot_be_traced_back_is_said(sound, tmp_path):
    path, integers = sound
    proto = onnx.load(path)
    for node in proto.graph.node:
        node.input[:] = [f"other_{name}" if name != "x" else name for name in node.input]
        node.output[:] = [f"other_{name}" if name != "y" else name for name in node.output]
    for tensor in proto.graph.initializer:
        tensor.name = f"other_{tensor.name}"
    onnx.save(proto, tmp_path / "renamed.onnx")
    found = asked(tmp_path / "renamed.onnx", integers, pictures(4))
    assert any("2 of 4 rounded activations" in note for note in found.notes)


def test_findings_are_ranked_and_small_ones_left_out():
    made = [
        Finding(name=str(impact), kind="slow", impact=impact, title="", evidence=[], advice="")
        for impact in (0.1, LEAST_IMPACT / 2, 0.7, LEAST_IMPACT)
    ]
    assert [finding.impact for finding in ranked(made)] == [0.7, 0.1, LEAST_IMPACT]
    diagnosis = Diagnosis(
        path="m", provider="P", threads=1, latency_ms=None, float_latency_ms=None, sqnr_db=None, findings=ranked(made), notes=[]
    )
    assert json.loads(json.dumps(diagnosis.document(), allow_nan=False)) == diagnosis.document()
