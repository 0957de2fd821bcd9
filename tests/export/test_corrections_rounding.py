"""Learned rounding: the quantizer takes the learned integers over, and the layers' outputs are nearer to float's."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import FLAVOURS, Graph, StaticInt8, calibrate, quantize_static
from edgekit_export.corrections import learn_rounding
from edgekit_export.corrections.grams import Window, window_of
from edgekit_export.corrections.grid import grid_of
from edgekit_export.corrections.layers import layers_of
from edgekit_runtime.accuracy import difference
from tests.export.conftest import floats
from tests.export.correction_networks import feeds_of, network, outputs

# u8s7 and u8u8 do not saturate, so their figures are the same on every processor.
FLAVOUR_NAMES = ("u8s8", "u8s7", "u8u8", "s8s8")


def dequantized(quantized: Graph) -> dict[str, np.ndarray]:
    """The weights that a quantized graph computes with, by node."""
    found = {}
    for node in quantized.model.graph:
        source = node.inputs[1].producer() if node.op_type in ("Conv", "Gemm", "MatMul") and node.inputs[1] is not None else None
        if source is None or source.op_type != "DequantizeLinear" or not source.inputs[0].is_initializer():
            continue
        stored, scale, zero = (value.const_value.numpy().astype(np.float64) for value in source.inputs)
        shape = [1] * stored.ndim
        if scale.size > 1:
            shape[source.attributes.get_int("axis", 1)] = -1
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        found[str(node.name)] = (stored - zero) * scale
    return found


def reads(graph: Graph) -> dict[str, np.ndarray]:
    return {layer.name: layer.values.copy() for layer in layers_of(graph)}


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("flavour", FLAVOUR_NAMES)
@pytest.mark.parametrize("name", ["relu", "block"])
def test_the_quantizer_takes_the_learned_integers(name: str, flavour: str, granularity: str) -> None:
    """All weights but the one that sets the scale lie on the quantizer's grid, and that one stays as it was."""
    graph = network(name)
    feeds = feeds_of(graph)
    learned = learn_rounding(graph, feeds, FLAVOURS[flavour], granularity)  # type: ignore[arg-type]
    scheme = StaticInt8(FLAVOURS[flavour], "minmax", "weighted", granularity)  # type: ignore[arg-type]
    histograms = calibrate(graph, feeds).histograms
    got = dequantized(quantize_static(learned, scheme, histograms).graph)
    plain = dequantized(quantize_static(graph, scheme, histograms).graph)
    weights = reads(learned)
    assert got.keys() == plain.keys() == weights.keys()
    moved = 0
    for layer in layers_of(graph):
        grid = grid_of(FLAVOURS[flavour], granularity, depthwise=layer.depthwise)  # type: ignore[arg-type]
        off = np.abs(got[layer.name] - weights[layer.name]) > 1e-6 * np.abs(weights[layer.name]).max()
        ends = np.count_nonzero(grid.ends(layer.rows()))
        assert np.count_nonzero(off) <= ends
        assert np.array_equal(weights[layer.name][off], layer.values[off])
        moved += np.count_nonzero(np.abs(got[layer.name] - plain[layer.name]) > 1e-6 * np.abs(layer.values).max())
    assert moved > 0


@pytest.mark.parametrize("flavour", ["u8s7", "u8u8"])
@pytest.mark.parametrize("name", ["relu", "relu6", "mlp"])
def test_no_layer_gets_worse(name: str, flavour: str, tmp_path: Path) -> None:
    """Each layer's weights alone, on what it reads in float: the mean squared error of its output never grows."""
    graph = network(name)
    feeds = feeds_of(graph)
    learned = learn_rounding(graph, feeds, FLAVOURS[flavour])
    for layer, after in zip(layers_of(graph), layers_of(learned), strict=True):
        errors = []
        for rounded in (graph, learned):
            one = {one.name: one for one in layers_of(rounded)}[layer.name]
            grid = grid_of(FLAVOURS[flavour], "channel", depthwise=layer.depthwise)
            rows = grid.rounded(one.rows(), grid.scales(one.rows()))
            alone = only(graph, layer.name, one.stored(rows), after.name if rounded is learned else None, learned)
            wanted, got = outputs(layer_outputs(graph, layer.output), feeds, tmp_path), outputs(alone, feeds, tmp_path)
            errors.append(sum(float(np.square(a["seen"] - b["seen"]).sum()) for a, b in zip(wanted, got, strict=True)))
        assert errors[1] <= errors[0] * (1 + 1e-4)  # float32 outputs of one layer, summed
    assert "dB less output error" in learned.changes[-1].detail


@pytest.mark.parametrize("name", ["relu", "relu6"])
def test_the_network_gets_better(name: str, tmp_path: Path) -> None:
    """With seven bits, where weights make most of the error; rounding of activations, which nobody learned, is part of both."""
    graph = network(name)
    feeds = feeds_of(graph)
    scheme = StaticInt8(FLAVOURS["u8s7"], "minmax", "weighted")
    histograms = calibrate(graph, feeds).histograms
    wanted = outputs(graph, feeds, tmp_path)
    before, after = (
        difference(outputs(quantize_static(one, scheme, histograms).graph, feeds, tmp_path), wanted).sqnr_db
        for one in (graph, learn_rounding(graph, feeds, FLAVOURS["u8s7"]))
    )
    assert after > before + 1.0


def layer_outputs(graph: Graph, name: str) -> Graph:
    """The graph with one more output, ``seen``: what a tensor holds, its constant bias behind it included."""

    def edit(model: ir.Model) -> str:
        value = next(value for node in model.graph for value in node.outputs if value.name == name)
        uses = list(value.uses())
        if len(uses) == 1 and uses[0].node.op_type == "Add" and uses[0].node.inputs[1 - uses[0].idx].is_initializer():
            value = uses[0].node.outputs[0]
        same = ir.node("Identity", [value])
        same.outputs[0].name, same.outputs[0].type, same.outputs[0].shape = "seen", value.type, value.shape
        model.graph.append(same)
        model.graph.outputs.clear()
        model.graph.outputs.append(same.outputs[0])
        return name

    return graph.changed("see", edit)


def only(graph: Graph, name: str, weight: np.ndarray, learned_name: str | None, learned: Graph) -> Graph:
    """The float graph with one layer's weight, and where it is learned its bias too, in the place of its own; that layer seen."""
    layer = next(layer for layer in layers_of(graph) if layer.name == name)
    bias = next(one.bias for one in layers_of(learned) if one.name == name)

    def edit(model: ir.Model) -> str:
        model.graph.initializers[layer.weight].const_value = ir.tensor(weight.astype(np.float32), name=layer.weight)
        if learned_name is not None and layer.bias is not None and bias is not None:
            value = learned.model.graph.initializers[bias].const_value
            assert value is not None
            model.graph.initializers[layer.bias].const_value = ir.tensor(value.numpy(), name=layer.bias)
        return name

    return layer_outputs(graph.changed("only", edit), layer.output)


def test_the_input_stays_as_it_was() -> None:
    graph = network("relu")
    before = {name: value.const_value.numpy().copy() for name, value in graph.model.graph.initializers.items()}
    learned = learn_rounding(graph, feeds_of(graph), FLAVOURS["u8s8"], nodes=[layers_of(graph)[0].name])
    for name, array in before.items():
        np.testing.assert_array_equal(graph.model.graph.initializers[name].const_value.numpy(), array)
    changed = [a.name for a, b in zip(layers_of(graph), layers_of(learned), strict=True) if not np.array_equal(a.values, b.values)]
    assert changed == [layers_of(graph)[0].name]
    assert learned.changes[:-1] == graph.changes
    assert learned.changes[-1].step == "learn rounding"


def conv(given: tuple[int, ...], kernel: tuple[int, ...], channels: int, **attributes: object) -> Graph:
    groups = int(attributes.get("group", 1))  # type: ignore[call-overload]
    weight = numpy_helper.from_array(floats(channels, given[1] // groups, *kernel, seed=5), "w")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(given))]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], "g", inputs, made, [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # As it is: prepared, a convolution over one axis would be one over two.
    return Graph(ir.from_proto(proto))


@pytest.mark.parametrize(
    ("given", "kernel", "channels", "attributes"),
    [
        ((2, 3, 9), (4,), 5, {"strides": [2], "pads": [1, 2]}),
        ((2, 4, 7, 6), (3, 2), 6, {"group": 2, "dilations": [2, 1], "pads": [2, 0, 1, 1]}),
        ((1, 3, 8, 8), (3, 3), 4, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((1, 3, 7, 7), (2, 2), 4, {"auto_pad": "SAME_LOWER"}),
        ((1, 6, 5, 5), (3, 3), 6, {"group": 6, "auto_pad": "VALID"}),
        ((1, 2, 4, 5, 3), (2, 3, 1), 4, {}),
    ],
)
def test_patches_times_rows_is_the_convolution(
    given: tuple[int, ...], kernel: tuple[int, ...], channels: int, attributes: dict[str, object], tmp_path: Path
) -> None:
    """The moments are those of what the convolution really reads: onnxruntime's own result is the judge."""
    graph = conv(given, kernel, channels, **attributes)
    feed = {"x": floats(*given, seed=9)}
    (wanted,) = [one["y"] for one in outputs(graph, [feed], tmp_path)]
    (layer,) = layers_of(graph)
    window = window_of(layer, next(iter(graph.model.graph)))
    patches = window.patches(feed["x"])
    product = (layer.rows() @ patches).reshape(channels, given[0], -1).transpose(1, 0, 2).reshape(wanted.shape)
    np.testing.assert_allclose(product, wanted, atol=1e-4)  # sums of a few dozen float32 products


def test_a_product_reads_its_last_axis() -> None:
    np.testing.assert_array_equal(Window().patches(np.arange(12.0).reshape(2, 2, 3))[0], np.arange(12.0).reshape(4, 3).T)


def test_nothing_to_do_gives_the_graph_back() -> None:
    graph = network("relu")
    assert learn_rounding(graph, feeds_of(graph), FLAVOURS["u8s8"], nodes=[]) is graph
