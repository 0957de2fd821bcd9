"""Networks over one axis give the same along the width; what has no exact form there stays."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgekit_export import Graph, prepare
from edgekit_export.passes import along_the_width, infer_shapes
from edgekit_runtime import load

Feed = dict[str, np.ndarray]
CHANNELS = 4


@dataclass
class Network:
    """A network that grows node by node over (batch, channels, length), or (batch, channels, length, 1) as columns."""

    columns: bool
    channels: int = CHANNELS

    def __post_init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.stored: list[TensorProto] = []
        self.last, self.earlier = "x", "x"
        self.draw = np.random.default_rng(0)

    def constant(self, array: np.ndarray) -> str:
        self.stored.append(numpy_helper.from_array(array, f"constant_{len(self.stored)}"))
        return str(self.stored[-1].name)

    def floats(self, *shape: int) -> str:
        return self.constant(self.draw.standard_normal(shape).astype(np.float32))

    def add(self, operator: str, *inputs: str, **attributes: object) -> None:
        output = f"v{len(self.nodes)}"
        given = inputs or (self.last,)
        self.nodes.append(helper.make_node(operator, list(given), [output], name=f"node_{len(self.nodes)}", **attributes))
        self.earlier, self.last = self.last, output

    def over(self, number: int, other: int = 1) -> list[int]:
        return [number, other] if self.columns else [number]

    def graph(self, *outputs: str, length: int | str = 24) -> Graph:
        ends = [*(outputs or (self.last,))]
        rank = 4 if self.columns else 3
        shape = ["batch", CHANNELS, length, 1][:rank]
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in ends],
                self.stored,
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=9,
        )
        return infer_shapes(Graph(ir.from_proto(model)))

    def feed(self, batch: int = 2, length: int = 24) -> Feed:
        shape = (batch, CHANNELS, length, 1)[: 4 if self.columns else 3]
        return {"x": np.random.default_rng(batch).standard_normal(shape).astype(np.float32)}


def convolve(net: Network, kernel: int, stride: int, dilation: int, pads: tuple[int, int], groups: int, filters: int) -> None:
    weight = net.floats(filters * groups, net.channels // groups, *net.over(kernel))
    net.add(
        "Conv",
        net.last,
        weight,
        net.floats(filters * groups),
        kernel_shape=net.over(kernel),
        strides=net.over(stride, 2 if net.columns else 1),
        dilations=net.over(dilation),
        pads=[*net.over(pads[0], 0), *net.over(pads[1], 0)],
        group=groups,
    )
    net.channels = filters * groups


def normalize(net: Network) -> None:
    scale, shift, mean = (net.floats(net.channels) for _ in range(3))
    variance = net.constant(net.draw.uniform(0.5, 2, net.channels).astype(np.float32))
    net.add("BatchNormalization", net.last, scale, shift, mean, variance)


def pool(net: Network, operator: str, ceil: int) -> None:
    net.add(operator, kernel_shape=net.over(2), strides=net.over(2), pads=[*net.over(1, 0), *net.over(0, 0)], ceil_mode=ceil)


def halve(net: Network) -> None:
    """Both halves of the channels, one through a Sigmoid, put together again in another order."""
    source, name = net.last, f"half_{len(net.nodes)}"
    part = net.channels // 2
    sizes = net.constant(np.array([part, net.channels - part], np.int64))
    net.nodes.append(helper.make_node("Split", [source, sizes], [f"{name}_a", f"{name}_b"], axis=1))
    net.add("Sigmoid", f"{name}_a")
    net.add("Concat", f"{name}_b", net.last, axis=-2 if not net.columns else -3)


def pad(net: Network, mode: str) -> None:
    each = net.constant(np.array([0, 0, *net.over(1, 0), 0, 0, *net.over(2, 0)], np.int64))
    # Not with zeros: onnxruntime 1.31 moves those into a pooling behind them, and then refuses its own result.
    net.add("Pad", net.last, each, *([net.constant(np.float32(-1.5))] if mode == "constant" else []), mode=mode)


def cut(net: Network) -> None:
    bounds = [net.constant(np.array([value], np.int64)) for value in (1, 2**62, -2 if net.columns else -1)]
    net.add("Slice", net.last, *bounds)


def scale(net: Network) -> None:
    net.add("Mul", net.last, net.floats(net.channels, *net.over(1)))


STEPS: dict[str, Callable[[Network], None]] = {
    "normalize": normalize,
    "relu": lambda net: net.add("Relu"),
    "clip": lambda net: net.add("Clip", net.last, net.constant(np.float32(-0.5)), net.constant(np.float32(0.5))),
    "max": lambda net: pool(net, "MaxPool", 0),
    "average": lambda net: pool(net, "AveragePool", 1),
    "twice": lambda net: net.add("Add", net.last, net.last),
    "scale": scale,
    "slope": lambda net: net.add("PRelu", net.last, net.floats(net.channels, *net.over(1))),
    "halve": halve,
    "numbers": lambda net: pad(net, "constant"),
    "edge": lambda net: pad(net, "edge"),
    "cut": cut,
    "mean": lambda net: net.add("GlobalAveragePool"),
    "outside": lambda net: net.add("Softmax", axis=1),
}
convolutions = st.tuples(
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(1, 2),
    st.tuples(st.integers(3, 5), st.integers(3, 5)),
    st.sampled_from([1, 2]),
    st.sampled_from([2, 4]),
)


def run(graph: Graph, feed: Feed, folder: Path) -> Feed:
    graph.save(folder / "model.onnx")
    return load(folder / "model.onnx")(feed)


def same(before: Graph, after: Graph, feed: Feed, folder: Path) -> None:
    wanted, got = run(before, feed, folder), run(after, feed, folder)
    assert list(wanted) == list(got)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(array).max())), err_msg=name)


def kernels(graph: Graph) -> list[tuple[int, ...]]:
    found = [node.inputs[1] for node in graph.model.graph if node.op_type == "Conv"]
    return [tuple(value.shape.numpy()[2:]) for value in found if value is not None and value.shape is not None]


@settings(max_examples=60, deadline=None)
@given(
    columns=st.booleans(),
    first=convolutions,
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=4),
    last=convolutions,
    batch=st.integers(1, 3),
    known=st.booleans(),
)
def test_any_network_over_one_axis_gives_the_same(
    columns: bool,
    first: tuple[int, int, int, tuple[int, int], int, int],
    steps: list[str],
    last: tuple[int, int, int, tuple[int, int], int, int],
    batch: int,
    known: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    net = Network(columns)
    convolve(net, *first)
    middle = net.last
    for step in steps:
        STEPS[step](net)
    convolve(net, *last)
    graph = net.graph(*dict.fromkeys((middle, net.last)), length=24 if known else "length")
    after = along_the_width(graph)
    # Behind a mean there is a single element, which has no direction.
    turned = [kernel for kernel in kernels(after) if len(kernel) == 2 and kernel[0] == 1]
    assert len(turned) == 2 or (columns and "mean" in steps)
    assert [node.name for node in graph.model.graph if node.name] == [
        node.name for node in after.model.graph if node.name and not node.name.endswith(("_along", "_back"))
    ]
    same(graph, after, net.feed(batch), tmp_path_factory.mktemp("along"))


def test_a_network_that_cannot_be_told_apart_inside_has_two_borders() -> None:
    net = Network(columns=True)
    for _ in range(3):
        convolve(net, 3, 1, 1, (1, 1), 1, 4)
        normalize(net)
        net.add("Relu")
    after = along_the_width(net.graph())
    assert after.operators() == {"Conv": 3, "BatchNormalization": 3, "Relu": 3, "Reshape": 2}
    assert [change.detail for change in after.changes][-1] == "3 convolutions, 6 nodes behind them"
    assert [str(value.name) for value in after.model.graph.outputs] == [net.last]


def test_a_weight_of_two_convolutions_is_turned_for_both(tmp_path: Path) -> None:
    net = Network(columns=False)
    weight = net.floats(4, 4, 3)
    for _ in range(2):
        net.add("Conv", net.last, weight, kernel_shape=[3], pads=[1, 1])
    graph = net.graph()
    after = along_the_width(graph)
    assert kernels(after) == [(1, 3), (1, 3)]
    same(graph, after, net.feed(), tmp_path)


def computed_weight(net: Network) -> None:
    net.add("Neg", net.floats(4, 4, *net.over(3)))
    net.add("Conv", "x", net.last, kernel_shape=net.over(3))


def image(net: Network) -> None:
    """A convolution that makes the width 2."""
    net.add("Conv", "x", net.floats(4, 4, 3, 1), kernel_shape=[3, 1], pads=[0, 1, 0, 0])


def single(net: Network) -> None:
    net.add("GlobalAveragePool")
    net.add("Conv", net.last, net.floats(4, 4, 1, 1), kernel_shape=[1, 1])


@pytest.mark.parametrize(
    ("columns", "build"),
    [(True, computed_weight), (False, computed_weight), (True, image), (True, single)],
    ids=["computed columns", "computed weight", "wider than 1", "a single element"],
)
def test_what_has_no_form_along_the_width_stays(columns: bool, build: Callable[[Network], None]) -> None:
    net = Network(columns)
    build(net)
    graph = net.graph()
    assert along_the_width(graph).model is graph.model


def test_the_places_of_maxima_stay(tmp_path: Path) -> None:
    """MaxPool counts elements in its second output, which would be others."""
    net = Network(columns=False)
    convolve(net, 3, 1, 1, (1, 1), 1, 4)
    net.nodes.append(helper.make_node("MaxPool", [net.last], ["top", "places"], kernel_shape=[2], strides=[2]))
    net.nodes.append(helper.make_node("Cast", ["places"], ["counted"], to=TensorProto.FLOAT))
    graph = net.graph("top", "counted")
    after = along_the_width(graph)
    assert after.changes[-1].detail == "1 convolutions, 0 nodes behind them"
    same(graph, after, net.feed(), tmp_path)


def test_preparing_writes_networks_along_the_width(tmp_path: Path) -> None:
    net = Network(columns=True)
    convolve(net, 5, 2, 1, (2, 2), 1, 8)
    net.add("Relu")
    graph = net.graph()
    prepared = prepare(graph, [net.feed()])
    assert kernels(prepared) == [(1, 5)]
    assert "along the width" in [change.step for change in prepared.changes]
    same(graph, prepared, net.feed(3), tmp_path)
