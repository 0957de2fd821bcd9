"""Batch normalization behind a ReLU: folded forward where that is exact, written as a convolution where it is not."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import FLAVOURS, Graph, StaticInt8, calibrate, quantize_static
from edgekit_export.agreement import agreement_db
from edgekit_export.passes import batchnorm_as_convolution, fold_batchnorm_forward

CHANNELS = 6
IMAGE = {"x": np.random.default_rng(0).standard_normal((2, 3, 10, 10)).astype(np.float32)}


class Builder:
    """Nodes one after another, with weights drawn from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.draw, self.nodes, self.arrays = np.random.default_rng(seed), [], {}  # type: ignore[var-annotated]

    def weight(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        name = f"w{len(self.arrays)}"
        self.arrays[name] = self.draw.uniform(low, high, shape).astype(np.float32)
        return name

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def normalized(self, value: str, channels: int = CHANNELS, shift: float = 1.0) -> str:
        """Behind a ReLU. Scales of both signs; shifts of 0 where asked for."""
        scale, variance = self.weight(channels, low=-1.5, high=1.5), self.weight(channels, low=0.5, high=2.0)
        bias, mean = self.weight(channels, low=-shift, high=shift), self.weight(channels, low=-shift, high=shift)
        return self.add("BatchNormalization", self.add("Relu", value), scale, bias, mean, variance)

    def graph(self, output: str, rank: int, shape: tuple[int | str, ...] = ("batch", 3, 10, 10)) -> Graph:
        floats = TensorProto.FLOAT
        proto = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", floats, shape)],
            [helper.make_tensor_value_info(output, floats, ["batch", *[None] * (rank - 1)])],
            [numpy_helper.from_array(array, name) for name, array in self.arrays.items()],
        )
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return Graph(ir.from_proto(onnx.shape_inference.infer_shapes(model)))


def convolutions(pad: int, shift: float = 1.0, seed: int = 0, groups: int = 1, strides: int = 1) -> Graph:
    """Conv → ReLU → BatchNorm → Conv with a bias, the second padded or not."""
    build = Builder(seed)
    first = build.normalized(build.add("Conv", "x", build.weight(CHANNELS, 3, 3, 3), pads=[1] * 4), shift=shift)
    weights = build.weight(2 * groups, CHANNELS // groups, 3, 3), build.weight(2 * groups)
    return build.graph(build.add("Conv", first, *weights, pads=[pad] * 4, group=groups, strides=[strides] * 2), 4)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), groups=st.sampled_from([1, 2, 3, 6]), strides=st.integers(1, 2))
def test_it_folds_into_a_convolution_that_pads_nothing(seed: int, groups: int, strides: int) -> None:
    graph = convolutions(0, seed=seed, groups=groups, strides=strides)
    folded = fold_batchnorm_forward(graph)
    assert folded.operators() == {"Conv": 2, "Relu": 1}
    assert agreement_db(graph, folded, [IMAGE]) > 100
    # The first weight, and the second with its bias: what was folded is not kept.
    assert len(folded.model.graph.initializers) == 3


def test_padding_forbids_it_unless_there_is_no_shift() -> None:
    """Zeros around the input did not go through the normalization."""
    shifted = convolutions(1)
    assert fold_batchnorm_forward(shifted) is shifted
    plain = convolutions(1, shift=0.0)
    folded = fold_batchnorm_forward(plain)
    assert folded.operators() == {"Conv": 2, "Relu": 1}
    assert agreement_db(plain, folded, [IMAGE]) > 100


@pytest.mark.parametrize("end", ["Gemm", "Gemm transposed", "Gemm scaled", "MatMul"])
@pytest.mark.parametrize("pooled", [True, False])
def test_it_folds_into_products_also_behind_a_mean(end: str, pooled: bool) -> None:
    build = Builder()
    if pooled:
        value = build.normalized(build.add("Conv", "x", build.weight(CHANNELS, 3, 3, 3)))
        value = build.add("Flatten", build.add("GlobalAveragePool", value))
        feed, shape = IMAGE, ("batch", 3, 10, 10)
    else:
        value = build.normalized(build.add("MatMul", "x", build.weight(8, CHANNELS)))
        feed, shape = {"x": np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)}, ("batch", 8)  # type: ignore[assignment]
    operator, _, how = end.partition(" ")
    if operator == "MatMul":
        value = build.add("MatMul", value, build.weight(CHANNELS, 4))
    else:
        sizes = (4, CHANNELS) if how == "transposed" else (CHANNELS, 4)
        options = {"transB": int(how == "transposed")} | ({"alpha": 0.5, "beta": 2.0} if how == "scaled" else {})
        value = build.add("Gemm", value, build.weight(*sizes), build.weight(4), **options)
    graph = build.graph(value, 2, shape)
    folded = fold_batchnorm_forward(graph)
    assert folded.changes[-1].detail == "1 folded"
    assert [spec.name for spec in folded.outputs] == [spec.name for spec in graph.outputs]
    assert agreement_db(graph, folded, [feed]) > 100


def test_all_that_follow_must_take_it() -> None:
    build = Builder()
    value = build.normalized(build.add("Conv", "x", build.weight(CHANNELS, 3, 3, 3)))
    one, other = build.add("Conv", value, build.weight(CHANNELS, CHANNELS, 1, 1)), build.add("Sigmoid", value)
    graph = build.graph(build.add("Mul", one, other), 4)
    assert fold_batchnorm_forward(graph) is graph


def test_a_result_of_the_graph_is_kept() -> None:
    build = Builder()
    value = build.normalized(build.add("Conv", "x", build.weight(CHANNELS, 3, 3, 3)))
    build.add("Conv", value, build.weight(CHANNELS, CHANNELS, 1, 1))
    graph = build.graph(value, 4)
    assert fold_batchnorm_forward(graph) is graph


def test_the_rest_becomes_convolutions() -> None:
    graph = convolutions(1)
    written = batchnorm_as_convolution(graph)
    assert written.operators() == {"Conv": 3, "Relu": 1}
    assert agreement_db(graph, written, [IMAGE]) > 100


@pytest.mark.parametrize(("pad", "step"), [(0, fold_batchnorm_forward), (1, batchnorm_as_convolution)])
def test_int8_no_longer_goes_through_float(pad: int, step: object, tmp_path: Path) -> None:
    """What onnxruntime runs: integers throughout, where the batch normalization would be float between two conversions."""
    graph = convolutions(pad)
    assert graph.operators()["BatchNormalization"] == 1
    # Folded forward where that is exact; else, and where nobody did, quantization itself makes a convolution of it.
    for form, convolutions_run in ((step(graph), 2 + pad), (graph, 3)):  # type: ignore[operator]
        kernels = integer_kernels(form, tmp_path)
        assert kernels["QLinearConv"] == convolutions_run
        assert kernels["DequantizeLinear"] == kernels["QuantizeLinear"] == 1
        assert kernels["BatchNormalization"] == 0


def integer_kernels(graph: Graph, folder: Path) -> Counter[str]:
    scheme = StaticInt8(FLAVOURS["u8s7"], "minmax", "everything")
    quantize_static(graph, scheme, calibrate(graph, [IMAGE]).histograms).graph.save(folder / "int8.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "opened.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(folder / "int8.onnx"), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "opened.onnx").graph.node)
