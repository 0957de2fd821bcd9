"""Chains that rename axes become one Reshape with the same elements in the same places, and nothing else does."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgekit_export import Graph
from edgekit_export.passes import collapse_reshapes, infer_shapes
from edgekit_runtime import load
from edgekit_runtime.errors import SessionError

Feed = dict[str, np.ndarray]


class Network:
    """A chain over x (batch, 1, 6, 4), between two Neg nodes, so that it is neither input nor output."""

    def __init__(self, shape: tuple[int | str, ...] = ("batch", 1, 6, 4)) -> None:
        self.shape = shape
        self.nodes: list[NodeProto] = [helper.make_node("Neg", ["x"], ["v"])]
        self.stored: list[TensorProto] = []
        self.last = "v"

    def constant(self, *values: int, scalar: bool = False) -> str:
        array = np.array(values[0] if scalar else values, np.int64)
        self.stored.append(numpy_helper.from_array(array, f"constant_{len(self.stored)}"))
        return str(self.stored[-1].name)

    def add(self, operator: str, *constants: str, **attributes: object) -> None:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.last, *constants], [output], **attributes))
        self.last = output

    def graph(self, *, closed: bool = True) -> Graph:
        if closed:
            self.nodes.append(helper.make_node("Neg", [self.last], ["y"]))
        output = "y" if closed else self.last
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
                [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                self.stored,
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=9,
        )
        return infer_shapes(Graph(ir.from_proto(model)))


def numbered(*shape: int) -> Feed:
    return {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}


def run(graph: Graph, feed: Feed, folder: Path) -> Feed:
    graph.save(folder / "model.onnx")
    return load(folder / "model.onnx")(feed)


def same(before: Graph, after: Graph, feed: Feed, folder: Path) -> None:
    wanted, got = run(before, feed, folder), run(after, feed, folder)
    assert list(wanted) == list(got)
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array)


STEPS = {
    "front": lambda net: net.add("Unsqueeze", net.constant(0)),
    "behind": lambda net: net.add("Unsqueeze", net.constant(-1)),
    "turn": lambda net: net.add("Transpose", perm=[1, 0, 2, 3]),
    "move": lambda net: net.add("Transpose", perm=[0, 2, 3, 1]),
    "mix": lambda net: net.add("Transpose", perm=[0, 1, 3, 2]),
    "drop": lambda net: net.add("Squeeze", net.constant(1)),
    "pick": lambda net: net.add("Gather", net.constant(0, scalar=True), axis=1),
    "keep": lambda net: net.add("Gather", net.constant(-1), axis=1),
    "all": lambda net: net.add("Slice", net.constant(0), net.constant(2**62), net.constant(0)),
    "some": lambda net: net.add("Slice", net.constant(1), net.constant(3), net.constant(2)),
    "flat": lambda net: net.add("Flatten", axis=2),
    "rows": lambda net: net.add("Reshape", net.constant(-1, 24)),
    "back": lambda net: net.add("Reshape", net.constant(-1, 1, 6, 4)),
    "first": lambda net: net.add("Reshape", net.constant(0, -1)),
}


def chain(steps: list[str], feed: Feed, folder: Path) -> tuple[Network, Feed, Path]:
    """A network of those of the steps that fit what is before them."""
    taken: list[str] = []
    for step in [*steps, None]:
        net = Network()
        for one in [*taken, *([step] if step else [])]:
            STEPS[one](net)
        if step is None:
            break
        try:
            run(net.graph(), feed, folder)
        except SessionError:
            continue
        taken.append(step)
    return net, feed, folder


@settings(max_examples=120, deadline=None)
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), batch=st.integers(1, 3), closed=st.booleans())
def test_any_chain_gives_the_same(steps: list[str], batch: int, closed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    net, feed, folder = chain(steps, numbered(batch, 1, 6, 4), tmp_path_factory.mktemp("chain"))
    graph = net.graph(closed=closed)
    after = collapse_reshapes(graph)
    assert len(list(after.model.graph)) <= len(list(graph.model.graph))
    same(graph, after, feed, folder)


def test_a_chain_becomes_one_reshape(tmp_path: Path) -> None:
    """As Silero's detector reads the output of an LSTM that ran one step."""
    net = Network((1, 1, "batch", 4))
    net.add("Transpose", perm=[0, 2, 1, 3])
    net.add("Reshape", net.constant(1, -1, 4))
    net.add("Gather", net.constant(0, scalar=True), axis=0)
    graph = net.graph()
    after = collapse_reshapes(graph)
    assert after.operators() == {"Neg": 2, "Reshape": 1}
    assert after.changes[-1].detail == "1 for 3 nodes"
    same(graph, after, numbered(1, 1, 5, 4), tmp_path)


def test_what_does_nothing_goes(tmp_path: Path) -> None:
    net = Network()
    net.add("Slice", net.constant(0, 0), net.constant(2**62, 9), net.constant(0, 2))
    net.add("Transpose", perm=[0, 2, 1, 3])
    net.add("Reshape", net.constant(0, 1, 6, 4))
    graph = net.graph()
    after = collapse_reshapes(graph)
    assert after.operators() == {"Neg": 2}
    assert after.changes[-1].detail == "0 for 3 nodes"
    same(graph, after, numbered(2, 1, 6, 4), tmp_path)


@pytest.mark.parametrize("batch", [0, 2])
def test_an_empty_batch_stays_possible(batch: int, tmp_path: Path) -> None:
    net = Network()
    net.add("Transpose", perm=[0, 2, 1, 3])
    net.add("Squeeze", net.constant(2))
    graph = net.graph()
    after = collapse_reshapes(graph)
    assert after.operators()["Reshape"] == 1
    same(graph, after, numbered(batch, 1, 6, 4), tmp_path)


def test_two_free_axes_in_other_places_stay() -> None:
    net = Network(("batch", "time", 1, 4))
    net.add("Unsqueeze", net.constant(0))
    net.add("Squeeze", net.constant(3))
    graph = net.graph()
    assert collapse_reshapes(graph).model is graph.model


@pytest.mark.parametrize("step", ["mix", "some", "rows", "drop", "flat"])
def test_a_node_that_moves_something_or_is_free_already_stays(step: str) -> None:
    net = Network()
    STEPS[step](net)
    graph = net.graph()
    assert collapse_reshapes(graph).model is graph.model


def test_masks_of_attention_stay_as_fusions_look_for_them() -> None:
    net = Network(("batch", "tokens"))
    net.add("Unsqueeze", net.constant(1))
    net.add("Unsqueeze", net.constant(2))
    graph = net.graph()
    assert collapse_reshapes(graph).model is graph.model
