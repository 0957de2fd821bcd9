"""Why a model is slow: what is found, not how sure the figures are, since no test waits for a quiet machine."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.commands.diagnose import diagnose
from edgekit.diagnosis import why_slow as slow
from edgekit.diagnosis.memory_bound import memory_bound_weights, read_bandwidth
from edgekit.diagnosis.profile import Profile, Side
from edgekit.diagnosis.thread_count import fitted
from edgekit.inspection.wiring import Wiring
from edgekit_runtime.errors import EdgekitError, SessionError
from edgekit_runtime.machine import available_cores
from edgekit_runtime.node_times import NodeTime
from edgekit_runtime.session import Provider, SessionConfig

from .conftest import write_project
from .test_diagnosis import quantized

ONE = SessionConfig(threads=1)
DRAW = np.random.default_rng(0)
FEED = {"x": DRAW.normal(size=(1, 16, 28, 28)).astype(np.float32)}


def convolutions(path: Path, activation: str) -> Path:
    """Conv, activation, Conv, activation, Conv on 16 channels of 28²."""
    stored = {f"w{index}": (DRAW.normal(size=(16, 16, 1, 1)) / 3).astype(np.float32) for index in range(3)}
    nodes = []
    for index in range(3):
        value, output = ("x" if index == 0 else f"a{index - 1}"), ("y" if index == 2 else f"c{index}")
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [output], name=f"conv{index}"))
        if index < 2:
            nodes.append(helper.make_node(activation, [output], [f"a{index}"], name=f"act{index}"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 28, 28])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 28, 28])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def found_in(path: Path, float_path: Path | None) -> dict:
    return {finding.name: finding for finding in slow.why_slow(path, session=ONE, feed=FEED, float_path=float_path).findings}


def test_hardswish_is_named_as_what_keeps_conversions(tmp_path):
    path = convolutions(tmp_path / "hardswish.onnx", "HardSwish")
    finding = found_in(quantized(path, [FEED]), path)["surviving-qdq"]
    assert "HardSigmoid" in finding.title
    assert "4 QuantizeLinear and DequantizeLinear" in finding.title
    assert 0 < finding.impact < 1
    assert any(line.startswith("they take") for line in finding.evidence)


def test_relu_keeps_none(tmp_path):
    path = convolutions(tmp_path / "relu.onnx", "Relu")
    assert "surviving-qdq" not in found_in(quantized(path, [FEED]), path)


def test_times_of_operators_are_compared_where_there_is_a_float_model(tmp_path):
    path = convolutions(tmp_path / "relu.onnx", "Relu")
    integers = quantized(path, [FEED])
    alone = slow.why_slow(integers, session=ONE, feed=FEED)
    assert alone.float_us is None
    assert any("--against" in note for note in alone.notes)
    both = slow.why_slow(integers, session=ONE, feed=FEED, float_path=path)
    assert both.float_us > 0
    assert both.total_us > 0


def test_threads_fit_the_cores():
    cores = available_cores()
    assert fitted(SessionConfig()).threads == cores
    assert fitted(SessionConfig(threads=cores + 7)).threads == cores
    assert fitted(SessionConfig(threads=1, graph_optimization="basic")) == SessionConfig(threads=1, graph_optimization="basic")


def test_too_many_threads_are_measured_and_never_assumed(tmp_path, monkeypatch):
    """The finding is made of measured times: with times that say so it is there, with times that do not it is not."""
    from edgekit.diagnosis import thread_count
    from edgekit_runtime.timing import Timings

    path = convolutions(tmp_path / "relu.onnx", "Relu")

    def taking(asked_ms, fit_ms):
        def interleave(calls, **options):
            for call in calls.values():
                call()
            spread = DRAW.uniform(0.99, 1.01, (15, 5))
            return {"asked": Timings(asked_ms * spread), "fit": Timings(fit_ms * spread[::-1])}

        monkeypatch.setattr(thread_count, "interleave", interleave)
        return thread_count.too_many_threads(path, Provider(), SessionConfig(threads=4 * available_cores()), FEED)

    finding = taking(4.0, 1.0)
    assert finding.name == "more-threads-than-cores"
    assert finding.impact == pytest.approx(0.75, abs=0.02)
    assert taking(1.0, 1.0) is None
    assert thread_count.too_many_threads(path, Provider(), SessionConfig(threads=available_cores()), FEED) is None


def products(rows: int, dtype: type) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.zeros((rows, 1024), dtype), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, [1, 1024])], [weight]))


@pytest.mark.parametrize(("slower", "bound"), [(1.0, True), (10.0, False)])
def test_weights_read_at_the_machines_pace_are_memory_bound(slower, bound):
    rows = 4096
    time_us = rows * 1024 * 4 / read_bandwidth() * 1e6 * slower
    times = [NodeTime("product", "MatMul", "CPUExecutionProvider", time_us)]
    finding = memory_bound_weights(Profile(Side(Wiring(products(rows, np.float32)), times), frozenset()))
    assert (finding is not None) == bound
    if finding is not None:
        assert finding.nodes == ["product"]
        assert finding.impact == pytest.approx(0.75)


def test_small_weights_stay_in_the_cache():
    times = [NodeTime("product", "MatMul", "CPUExecutionProvider", 0.1)]
    assert memory_bound_weights(Profile(Side(Wiring(products(64, np.float32)), times), frozenset())) is None


def test_a_provider_that_is_not_here_is_said_first(tmp_path):
    path = convolutions(tmp_path / "relu.onnx", "Relu")
    found = slow.why_slow(path, Provider("NobodysExecutionProvider"), ONE, feed=FEED)
    assert found.findings[0].name == "provider-fallback"
    assert "NobodysExecutionProvider" in found.findings[0].title


def test_diagnosis_of_a_bundle_with_its_recipe(deployed):
    folder, _ = deployed
    found = diagnose(folder / "quadrants.edge", recipe=folder / "recipe.py")
    assert found.provider == "CPUExecutionProvider"
    assert found.latency_ms > 0
    assert json.loads(json.dumps(found.document(), allow_nan=False)) == found.document()
    assert [finding.impact for finding in found.findings] == sorted((finding.impact for finding in found.findings), reverse=True)


def test_a_bundle_alone_is_measured_on_its_golden_inputs(deployed):
    folder, _ = deployed
    found = diagnose(folder / "quadrants.edge")
    assert any("golden inputs" in note for note in found.notes)


def test_a_recipes_model_is_quantized_first(tmp_path):
    found = diagnose(write_project(tmp_path), scheme="static-u8s7-minmax-weighted")
    assert found.sqnr_db is not None
    assert found.float_latency_ms is not None


def test_evaluation_that_is_preprocessed_in_another_way_is_found(deployed, tmp_path):
    folder, _ = deployed
    recipe = write_project(tmp_path, ('return [({"image": image[None]}', 'return [({"image": 255 * image[None]}'))
    integers = folder / "quadrants.edge"
    found = diagnose(integers, recipe=recipe)
    assert "preprocessing-mismatch" in [finding.name for finding in found.findings]


def test_wrong_inputs_get_one_clear_message(project, tmp_path):
    with pytest.raises(SessionError, match="threads=0"):
        diagnose(project / "quadrants.onnx", threads=0)
    with pytest.raises(EdgekitError, match=r"nothing\.onnx"):
        diagnose(project / "nothing.onnx")
    other = convolutions(tmp_path / "other.onnx", "Relu")
    with pytest.raises(EdgekitError, match="does not fit the model"):
        diagnose(other, recipe=project / "recipe.py")


def test_command_line(cli, project):
    ended = cli("inspect", project / "recipe.py", "--why", "--scheme", "static-u8s7-minmax-weighted", "--json", "--quiet")
    assert ended.status == 0, ended.err
    document = json.loads(ended.out)
    assert {"findings", "sqnr_db", "latency_ms", "notes"} <= document.keys()
    text = cli("inspect", project / "quadrants.onnx", "--why", "--quiet")
    assert text.status == 0, text.err
    assert "nothing in it is quantized" in text.out
    assert cli("inspect", project / "quadrants.onnx", "--threads", "2").status == 2
    assert cli("inspect", project / "quadrants.onnx", "--why", "--examples", "2").status == 2
    assert cli("inspect", project / "quadrants.onnx", "--why", "--sensitivity").status == 2
