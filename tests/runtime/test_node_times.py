"""Times of nodes: every node of the optimized graph once, in order, and what does not hold is refused."""

import numpy as np
import pytest

from edgekit_runtime.errors import EdgekitError, InputError
from edgekit_runtime.node_times import node_times, node_times_of_all
from edgekit_runtime.session import Provider, SessionConfig

onnx = pytest.importorskip("onnx", reason="the runtime alone has no onnx to write models with")

ONE_THREAD = SessionConfig(threads=1)
PLAIN = SessionConfig(threads=1, graph_optimization="disable")


@pytest.fixture
def chain(tmp_path):
    """Two products with a Tanh between, as a file, and a feed."""
    helper, proto = onnx.helper, onnx.TensorProto
    weight = onnx.numpy_helper.from_array(np.eye(32, dtype=np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Tanh", ["a"], ["b"], "between"),
        helper.make_node("MatMul", ["b", "w"], ["y"], "second"),
    ]
    values = [helper.make_tensor_value_info(name, proto.FLOAT, ["batch", 32]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:], [weight])
    path = tmp_path / "chain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path, {"x": np.ones((4, 32), np.float32)}


def test_each_node_is_told_once_in_the_order_of_running(chain):
    path, feed = chain
    times = node_times(path, feed, config=PLAIN, rounds=3)
    assert [(time.name, time.operator) for time in times] == [("first", "MatMul"), ("between", "Tanh"), ("second", "MatMul")]
    assert all(time.time_us >= 0 and time.provider == "CPUExecutionProvider" for time in times)
    assert times[0].output_bytes == 4 * 32 * 4


def test_several_models_are_profiled_in_turn_and_told_apart(chain):
    path, feed = chain
    options = {"plain": (Provider(), PLAIN), "fused": (Provider(), ONE_THREAD)}
    done: list[int] = []
    found = node_times_of_all({"plain": path, "fused": path}, feed, options, rounds=3, on_round=done.append)
    assert set(found) == {"plain", "fused"}
    assert len(found["plain"]) == 3
    assert done[-1] >= 3


def test_nothing_is_left_behind(chain, monkeypatch):
    path, feed = chain
    monkeypatch.chdir(path.parent)
    node_times(path, feed, rounds=2)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_does_not_hold_is_refused(chain):
    path, feed = chain
    with pytest.raises(InputError, match="rounds=1"):
        node_times(path, feed, rounds=1)
    with pytest.raises(EdgekitError, match="does not run"):
        node_times(path, {"x": np.ones((4, 31), np.float32)}, rounds=2)
