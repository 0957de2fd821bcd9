"""Bias correction: the mean error of every output channel shrinks, through integer biases and constants behind products."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import FLAVOURS, Graph, StaticInt8, calibrate, prepare, quantize_static
from edgekit_export.calibration.observe import observed
from edgekit_export.corrections import correct_bias
from edgekit_export.corrections.bias import certain_mean, steady_mean
from edgekit_export.corrections.layers import layers_of
from edgekit_runtime.accuracy import difference
from tests.export.conftest import floats
from tests.export.correction_networks import Feed, network, outputs

SCHEME = StaticInt8(FLAVOURS["u8s7"], "minmax", "weighted")


def feeds_of(graph: Graph, count: int, seed: int) -> list[Feed]:
    (spec,) = graph.inputs
    shape = [size if isinstance(size, int) else 4 for size in spec.shape]
    return [{spec.name: floats(*shape, seed=seed + index)} for index in range(count)]


def coarse(graph: Graph, feeds: list[Feed]) -> Graph:
    """Quantized with ranges that clip a good part of what is seen, so that means really shift."""
    histograms = calibrate(graph, feeds).histograms
    return quantize_static(graph, StaticInt8(FLAVOURS["u8s7"], "mse", "weighted"), histograms).graph


def mean_errors(graph: Graph, quantized: Graph, feeds: list[Feed]) -> dict[str, float]:
    """By layer: root of the mean square over channels of the mean error."""
    found = {}
    nodes = {str(node.name): node for node in quantized.model.graph}
    for layer in layers_of(graph):
        name = str(nodes[layer.name].outputs[0].name)
        wanted = [np.moveaxis(one[layer.output], layer.channel_axis, -1) for one in observed(graph, [layer.output], feeds)]
        got = [np.moveaxis(one[name], layer.channel_axis, -1) for one in observed(quantized, [name], feeds)]
        errors = np.concatenate([(a - b).reshape(-1, layer.outputs) for a, b in zip(got, wanted, strict=True)])
        found[layer.name] = float(np.sqrt(np.mean(errors.mean(axis=0) ** 2)))
    return found


@pytest.mark.parametrize("name", ["relu", "relu6"])
def test_the_mean_error_of_each_layer_shrinks(name: str, tmp_path: Path) -> None:
    graph = network(name)
    feeds = feeds_of(graph, 12, seed=20)
    quantized = coarse(graph, feeds)
    kept = {key: value.const_value.numpy().copy() for key, value in quantized.model.graph.initializers.items()}
    corrected = correct_bias(graph, quantized, feeds)
    before, after = mean_errors(graph, quantized, feeds), mean_errors(graph, corrected, feeds)
    assert sum(after.values()) < 0.6 * sum(before.values())
    wanted = outputs(graph, feeds, tmp_path)
    gain = [difference(outputs(one, feeds, tmp_path), wanted).sqnr_db for one in (quantized, corrected)]
    assert gain[1] > gain[0]
    assert corrected.operators() == quantized.operators() or "DequantizeLinear" in corrected.operators()
    assert corrected.changes[:-1] == quantized.changes
    assert corrected.changes[-1].step == "correct bias"
    for key, array in kept.items():
        np.testing.assert_array_equal(quantized.model.graph.initializers[key].const_value.numpy(), array)


def test_a_bias_is_added_where_there_is_none() -> None:
    """The last convolution of the network has none; it gets an integer one, and the quantizer's form of it."""
    graph = network("relu")
    feeds = feeds_of(graph, 8, seed=40)
    quantized = coarse(graph, feeds)
    corrected = correct_bias(graph, quantized, feeds)
    bare = [layer.name for layer in layers_of(graph) if layer.bias is None]
    assert bare
    for node in corrected.model.graph:
        if node.name in bare:
            source = node.inputs[2].producer() if node.inputs[2] is not None else None
            assert source is not None
            assert source.op_type == "DequantizeLinear"
            assert source.inputs[0].const_value.dtype == ir.DataType.INT32


def mlp(biased: bool) -> Graph:
    """A product with or without a bias behind it, a ReLU, and another product."""
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"], name="first")]
    nodes += [helper.make_node("Add", ["h", "c"], ["s"], name="bias")] if biased else []
    nodes += [
        helper.make_node("Softplus", ["s" if biased else "h"], ["r"], name="softplus"),
        helper.make_node("MatMul", ["r", "b"], ["y"], name="second"),
    ]
    arrays = {"a": floats(8, 8, seed=1), "b": floats(8, 8, seed=2), **({"c": floats(8, seed=3)} if biased else {})}
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", "t", 8))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", "t", 8))],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return prepare(Graph(ir.from_proto(proto)), [{"x": floats(2, 3, 8)}])


@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_corrected_behind_its_result(biased: bool, tmp_path: Path) -> None:
    graph = mlp(biased)
    feeds = feeds_of(graph, 8, seed=60)
    quantized = coarse(graph, feeds)
    corrected = correct_bias(graph, quantized, feeds)
    added = corrected.operators().get("Add", 0) - quantized.operators().get("Add", 0)
    assert added == (0 if biased else 1)
    # The second product gives the graph's own output: its name is the caller's, so nothing is put behind it.
    assert corrected.changes[-1].detail == "1 layers, 1 without a bias left as they are"
    wanted = outputs(graph, feeds, tmp_path)
    before, after = (
        np.abs(np.mean([a["y"] - b["y"] for a, b in zip(outputs(one, feeds, tmp_path), wanted, strict=True)], axis=(0, 1, 2)))
        for one in (quantized, corrected)
    )
    assert np.square(after).sum() < np.square(before).sum()


def test_what_is_chance_stays_out() -> None:
    """A shift that one feed shows and the next denies is not built in; one that all show is."""
    random = np.random.default_rng(0)
    noise, shift = random.normal(0.0, 1.0, (8, 400)), np.full((8, 400), 2.0)
    assert np.square(certain_mean(noise)).mean() < 0.5 * np.square(noise.mean(axis=0)).mean()
    np.testing.assert_allclose(certain_mean(shift), 2.0)
    assert np.abs(certain_mean(noise + shift) - 2.0).mean() < 0.5
    np.testing.assert_allclose(certain_mean(noise[:1]), noise[0], rtol=1e-6)


def test_nothing_to_do_gives_the_graph_back() -> None:
    graph = network("relu")
    assert correct_bias(graph, graph, feeds_of(graph, 2, seed=1)) is graph


def test_one_clipped_position_does_not_shift_the_rest() -> None:
    """A token wrong by hundreds of steps among a hundred others; and where errors are of a kind, the mean is the mean."""
    errors = np.random.default_rng(1).normal(0.5, 0.1, (100, 6))
    plain = steady_mean(errors)
    np.testing.assert_allclose(plain, errors.mean(axis=0), rtol=1e-9)
    errors[0] = 300.0
    np.testing.assert_allclose(
        steady_mean(errors), plain, atol=0.02
    )  # the edge lies nine median deviations out, a hundredth of them
