import numpy as np
import onnx
import pytest

import edgekit
from edgekit_runtime.errors import InputError


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
