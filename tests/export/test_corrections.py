"""Equalization and SmoothQuant: the graph computes the same, and what makes int8 hard is gone."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import Graph, prepare
from edgekit_export.corrections import channel_maxima, equalize, smooth
from edgekit_export.corrections.channel_groups import channel_groups, scale_group
from tests.export.conftest import floats
from tests.export.correction_networks import BUILDERS, feeds_of, network, sqnr_db

# Factors are powers of nothing in particular, so each weight is rounded once more: about 120 dB. Any wrong factor is far below.
SAME_DB = 100.0


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    return {name: network(name) for name in BUILDERS}


def weights_of(graph: Graph) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy().copy() for name, value in graph.model.graph.initializers.items() if value.const_value}


def stretched(graph: Graph) -> Graph:
    """The same function, with the stem's channels a thousand times apart, so that each needs its own scale."""

    def edit(model: ir.Model) -> str:
        for group in channel_groups(model):
            channels = group.givers[0].outputs
            scale_group(model, group, np.geomspace(0.03, 30.0, channels)[np.random.default_rng(2).permutation(channels)])
        return "stretched"

    return graph.changed("stretch", edit)


@pytest.mark.parametrize("name", ["relu", "leaky", "mlp"])
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_equalizing_keeps_the_function_and_evens_the_channels_out(
    name: str, by: str, graphs: dict[str, Graph], tmp_path: Path
) -> None:
    graph = stretched(graphs[name])
    before = weights_of(graph)
    maxima = channel_maxima(graph, feeds_of(graph))
    equalized = equalize(graph, maxima if by == "activations" else None)
    assert sqnr_db(graphs[name], equalized, tmp_path) > SAME_DB
    assert sqnr_db(graph, equalized, tmp_path) > SAME_DB
    assert equalized.changes[-1].step == "equalize"
    assert " channel groups" in equalized.changes[-1].detail
    for key, array in weights_of(graph).items():
        np.testing.assert_array_equal(array, before[key])
    spread = unevenness(graph), unevenness(equalized)
    assert spread[1] < spread[0] / 2  # thrown a thousand times apart, and drawn together again; the input itself stays as it is


def unevenness(graph: Graph) -> float:
    """How far apart the channels of what layers read are: mean of the spread of log maxima; silent channels do not count."""
    maxima = channel_maxima(graph, feeds_of(graph))
    return float(np.mean([np.log(one[one > 0]).std() for one in maxima.values()]))


def test_the_residual_stream_is_one_group(graphs: dict[str, Graph]) -> None:
    """What the stem and the projection add up to is read by two convolutions: all four share their factors."""
    sizes = sorted((len(group.givers), len(group.readers)) for group in channel_groups(graphs["relu"].model))
    assert sizes == [(1, 1), (1, 1), (1, 1), (2, 2)]


def test_a_clip_that_is_reached_keeps_its_channels(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs["relu6"]
    seen = channel_maxima(graph, feeds_of(graph))
    quiet = {name: np.linspace(0.5, 2.9, len(one), dtype=np.float32) for name, one in seen.items()}
    loud = {name: one + 3.2 for name, one in quiet.items()}
    clips = graph.operators()["Clip"]
    assert equalize(graph, loud).operators()["Clip"] == clips
    assert sqnr_db(graph, equalize(graph, loud), tmp_path) > SAME_DB
    assert sqnr_db(graph, equalize(graph), tmp_path) > SAME_DB
    unclipped = equalize(graph, quiet)
    assert "Clip" not in unclipped.operators()
    assert unclipped.operators()["Relu"] == clips
    clipped = [node.outputs[0].name for node in graph.model.graph if node.op_type == "Clip"]
    assert max(float(seen[str(name)].max()) for name in clipped) < 6.0  # no clip acts on these feeds, so all is as it was
    assert sqnr_db(graph, unclipped, tmp_path) > SAME_DB


@pytest.mark.parametrize(("name", "folds"), [("block", 3), ("spelt out", 3), ("mlp", 2)])
def test_smoothing_folds_into_what_comes_before(name: str, folds: int, graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs[name]
    maxima = channel_maxima(graph, feeds_of(graph))
    before = weights_of(graph)
    smoothed = smooth(graph, maxima, insert=False)
    assert sqnr_db(graph, smoothed, tmp_path) > SAME_DB
    assert smoothed.operators() == graph.operators()
    assert smoothed.changes[-1].detail == f"{folds} inputs folded into what gives them, 0 by a Mul"
    assert unevenness(smoothed) < unevenness(graph)
    for key, array in weights_of(graph).items():
        np.testing.assert_array_equal(array, before[key])


def product(*nodes: object, weights: dict[str, np.ndarray], outputs: tuple[str, ...] = ("y",)) -> Graph:
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 8))]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", 8)) for name in outputs]
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "g", given, made, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = {"x": floats(3, 8)}
    return prepare(Graph(ir.from_proto(proto)), [feed])


def test_a_mul_is_inserted_once_where_nothing_can_take_the_factors(tmp_path: Path) -> None:
    """The input of the graph is read by two products, with a channel that sticks out."""
    graph = product(
        helper.make_node("MatMul", ["x", "a"], ["y"], name="first"),
        helper.make_node("Gemm", ["x", "b", "c"], ["z"], name="second", transB=1),
        weights={"a": floats(8, 8, seed=1), "b": floats(8, 8, seed=2), "c": floats(8, seed=3)},
        outputs=("y", "z"),
    )
    even = {"x": np.ones(8, np.float32)}
    uneven = {"x": np.array([100.0, 1, 1, 1, 1, 1, 1, 1], np.float32)}
    assert smooth(graph, even).model is graph.model
    assert smooth(graph, uneven, insert=False).model is graph.model
    smoothed = smooth(graph, uneven)
    assert smoothed.operators() == {"MatMul": 1, "Gemm": 1, "Mul": 1}
    assert sqnr_db(graph, smoothed, tmp_path) > SAME_DB


def test_what_something_else_reads_is_left_alone(tmp_path: Path) -> None:
    """A ReLU's result that is also an output of the graph, and a tied weight."""
    nodes = (
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "b"], ["y"], name="second"),
    )
    matrices = {"a": floats(8, 8, seed=1), "b": floats(8, 8, seed=2)}
    seen = product(*nodes, weights=matrices, outputs=("y", "r"))
    assert equalize(seen).model is seen.model
    tied = product(*nodes[:2], helper.make_node("MatMul", ["r", "a"], ["y"], name="second"), weights={"a": matrices["a"]})
    assert equalize(tied).model is tied.model
    free = product(*nodes, weights=matrices)
    assert sqnr_db(free, equalize(free), tmp_path) > SAME_DB
    assert equalize(free).changes[-1].detail == "1 of 1 channel groups"


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 7.0, 1e6]), min_size=16, max_size=16), st.floats(0.0, 1.0))
def test_any_maxima_keep_the_function(
    graphs: dict[str, Graph], tmp_path_factory: object, largest: list[float], strength: float
) -> None:
    """Silent channels, and ones that explode, among them."""
    folder = tmp_path_factory.mktemp("any")  # type: ignore[attr-defined]
    graph = graphs["mlp"]
    maxima = {name: np.asarray(largest, np.float32)[: len(one)] for name, one in channel_maxima(graph, feeds_of(graph)).items()}
    for changed in (smooth(graph, maxima, strength=strength), equalize(graph, maxima, strength=strength)):
        assert sqnr_db(graph, changed, folder) > 80.0  # factors of up to ten thousand cost a few of float's bits


def test_nothing_to_do_gives_the_graph_back() -> None:
    graph = product(helper.make_node("Relu", ["x"], ["y"], name="relu"), weights={})
    assert channel_maxima(graph, [{"x": floats(2, 8)}]) == {}
    for same in (equalize(graph), equalize(graph, {}), smooth(graph, {})):
        assert same is graph
