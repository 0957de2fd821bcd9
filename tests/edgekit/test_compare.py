from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgekit
from edgekit.comparison import Comparison, Gate, Limits
from edgekit.junit import junit_xml
from edgekit_runtime.errors import EvaluationError, InputError, OutputError
from edgekit_runtime.measurement import Measurement


@pytest.fixture
def worse(project):
    """The quadrants model with the logits of one class raised, so that it is often wrong."""
    model = onnx.load(project / "quadrants.onnx")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "b2")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.asarray([0.3, 0, 0, 0], np.float32), "b2"))
    onnx.save(model, project / "worse.onnx")
    return project / "worse.onnx"


def test_b_is_told_against_a(project, worse):
    found = edgekit.compare(project / "quadrants.onnx", worse, recipe=project / "recipe.py", max_drop=0.01, rounds=3)
    a, b = found.figures_a, found.figures_b
    assert b.metric_drop == pytest.approx(a.metric - b.metric)
    assert b.metric_drop > 0.05
    assert b.max_abs_diff == pytest.approx(0.3, rel=1e-3)
    assert a.max_abs_diff == 0
    assert found.examples == 200
    assert not found.passed
    assert found.gates[0].limit == 0.01
    for figures in (a, b):
        assert None not in (figures.latency_ms, figures.size_bytes, figures.peak_rss_bytes, figures.cold_start_ms)


def test_the_gate_is_exit_status_3(project, worse, cli):
    arguments = ("compare", project / "quadrants.onnx", worse, "--recipe", project / "recipe.py", "--rounds", 3, "-q")
    ended = cli(*arguments, "--max-drop", "0.01")
    assert ended.status == 3
    assert "does not hold" in ended.out
    assert "gate not met: max_drop: 0." in ended.err
    assert cli(*arguments, "--max-drop", "0.9").status == 0


def test_a_bundle_with_itself(deployed):
    bundle = deployed[0] / "quadrants.edge"
    found = edgekit.compare(bundle, bundle, rounds=3)
    assert found.figures_b.max_abs_diff == 0
    assert found.figures_a.metric is None


def test_models_that_cannot_be_compared(project, cli):
    other = onnx.load(project / "quadrants.onnx")
    for old, new, told in (("image", "picture", "they must take the same"), ("logits", "scores", "they must give the same")):
        model = onnx.ModelProto()
        model.CopyFrom(other)
        for value in (*model.graph.input, *model.graph.output):
            value.name = value.name.replace(old, new)
        for node in model.graph.node:
            node.input[:] = [name.replace(old, new) for name in node.input]
            node.output[:] = [name.replace(old, new) for name in node.output]
        onnx.save(model, project / "other.onnx")
        with pytest.raises(InputError, match=told):
            edgekit.compare(project / "quadrants.onnx", project / "other.onnx", rounds=3)
    ended = cli("compare", project / "quadrants.onnx", project / "quadrants.onnx", "--max-drop", "0.1")
    assert (ended.status, "a metric is needed; give --recipe" in ended.line) == (1, True)
    assert cli("compare", project / "quadrants.onnx", project / "none.edge").status == 1


def test_junit_has_a_test_for_each_gate(project, worse, cli):
    out = project / "gates.xml"
    arguments = ("compare", project / "quadrants.onnx", worse, "--recipe", project / "recipe.py", "--rounds", 3, "-q")
    ended = cli(*arguments, "--junit", out, "--max-drop", "0.01", "--max-size-ratio", "1.5", "--min-sqnr", "90")
    assert ended.status == 3
    root = ET.fromstring(out.read_bytes())
    suite = root[0]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert list(cases) == ["accuracy", "certified", "latency", "size", "parity"]
    told = {name: sorted(child.tag for child in case) for name, case in cases.items()}
    assert told["accuracy"] == told["parity"] == ["failure", "system-out"]
    assert told["certified"] == told["latency"] == ["skipped"]
    assert told["size"] == ["system-out"]
    counts = {"tests": "5", "failures": "2", "skipped": "2", "errors": "0"}
    assert counts.items() <= root.attrib.items()
    assert counts.items() <= suite.attrib.items()
    failure = cases["accuracy"].find("failure")
    assert "max_drop: 0." in failure.text
    assert "limit 0.01" in failure.text
    assert "on 200 examples" in failure.get("message")
    assert not list(project.glob(".*.tmp"))


def test_gates_hold_or_not(project, worse, cli):
    arguments = ("compare", project / "quadrants.onnx", worse, "--rounds", 3, "-q")
    assert cli(*arguments, "--max-size-ratio", "1.01", "--min-sqnr", "0").status == 0
    ended = cli(*arguments, "--min-speedup", "50")
    assert ended.status == 3
    assert "gate not met: min_speedup" in ended.err
    assert cli(*arguments, "--recipe", project / "recipe.py", "--max-drop", "0.9", "--require-certified").status == 0


def test_gates_that_make_no_sense_are_refused_before_any_work(project):
    model = project / "quadrants.onnx"
    with pytest.raises(EvaluationError, match="no gate was asked for"):
        edgekit.compare(model, model, junit=project / "a.xml")
    with pytest.raises(EvaluationError, match="--max-drop"):
        edgekit.compare(model, model, require_certified=True)
    with pytest.raises(OutputError, match=r"ends in \.xml"):
        edgekit.compare(model, model, max_size_ratio=1.0, junit=project / "a.json")
    with pytest.raises(EvaluationError, match="min_speedup=nan"):
        edgekit.compare(model, model, min_speedup=float("nan"))


A = Measurement(metric=0.9, latency_ms=2.0, size_bytes=1000)


@given(
    drop=st.floats(-0.2, 0.2),
    half=st.floats(0, 0.1),
    speed=st.floats(0.2, 5),
    spread=st.floats(0, 0.5),
    size=st.integers(1, 3000),
    sqnr=st.none() | st.floats(-10, 90),
    examples=st.integers(1, 5000),
)
def test_each_gate_judges_its_own_figure(drop, half, speed, spread, size, sqnr, examples):
    b = Measurement(
        metric=0.9 - drop,
        metric_drop=drop,
        metric_drop_ci=(drop - half, drop + half),
        latency_ms=2.0 / speed,
        speedup=speed,
        speedup_ci=(speed * (1 - spread), speed * (1 + spread)),
        size_bytes=size,
        sqnr_db=sqnr,
        max_abs_diff=0.1,
    )
    gates = {gate.name: gate.holds for gate in Limits(0.05, True, 1.0, 0.5, 30.0).gates(A, b, examples)}
    assert gates == {
        "max_drop": drop <= 0.05,
        "certified": drop <= 0.05 and drop + half <= 0.05 and examples >= 60,
        "min_speedup": speed * (1 - spread) >= 1.0,
        "max_size_ratio": size <= 500,
        "min_sqnr_db": sqnr is not None and sqnr >= 30,
    }


def test_equal_outputs_pass_any_parity_gate():
    equal = Measurement(max_abs_diff=0.0)
    (gate,) = Limits(min_sqnr_db=200.0).gates(A, equal, 0)
    assert gate.holds
    assert "equal" in gate.told


@given(st.text(max_size=40), st.text(max_size=40))
def test_junit_holds_any_path(path, detail):
    gates = [Gate("max_drop", 0.5, 0.1, holds=False, detail=detail)]
    made = Comparison(a=path, b="b.onnx", figures_a=A, figures_b=A, examples=0, gates=gates)
    root = ET.fromstring(junit_xml(made).encode())
    assert len(list(root.iter("failure"))) == 1
