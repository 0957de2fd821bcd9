"""Rewrites: the same function in operators that have integer kernels, within stated bounds, and nothing left in float between."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekit_export import FLAVOURS, Graph, StaticInt8, calibrate, prepare, quantize_static, trace
from edgekit_export.placement import nodes_in
from edgekit_export.rewrites import canonical_activations, integer_activations, pooled_means
from edgekit_runtime import load
from edgekit_runtime.accuracy import difference
from edgekit_runtime.session import SessionConfig, open_session

Feed = dict[str, np.ndarray]
DRAW = np.random.default_rng(3)
IMAGE = {"image": DRAW.standard_normal((2, 3, 32, 32)).astype(np.float32)}
DTYPES = {"u8": np.uint8, "s8": np.int8}


def run(graph: Graph, feed: Feed, folder: Path) -> Feed:
    graph.save(folder / "model.onnx")
    return load(folder / "model.onnx")(feed)


def optimized_operators(graph: Graph, folder: Path) -> Counter[str]:
    """What onnxruntime runs on this machine."""
    import onnxruntime as ort

    graph.save(folder / "given.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(folder / "given.onnx", options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


class Spelled(nn.Module):
    """A convolution before and after an activation."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.activation, self.second = nn.Conv2d(3, 8, 3, padding=1), activation, nn.Conv2d(8, 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.activation(4 * self.first(image)))
        return result


class Lambda(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.function(image)  # type: ignore[operator]
        return result


SPELLINGS = {
    "x relu6(x+3) / 6": (lambda x: x * nn.functional.relu6(x + 3) / 6, "HardSwish"),
    "x (relu6(x+3) / 6)": (lambda x: x * (nn.functional.relu6(x + 3) / 6), "HardSwish"),
    "x clamp(x/6 + 1/2)": (lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1), "HardSwish"),
    "clamp(1/2 + x * 1/6)": (lambda x: torch.clamp(0.5 + x * (1 / 6), 0, 1), "HardSigmoid"),
    "hardsigmoid(x) x": (lambda x: nn.functional.hardsigmoid(x) * x, "HardSwish"),
    "x (1 + erf) / 2": (lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), "Gelu"),
    "x ((erf + 1) / 2)": (lambda x: x * ((torch.erf(x * 2**-0.5) + 1) * 0.5), "Gelu"),
}
LOOKALIKES = {
    "relu6(x+2) / 6": lambda x: x * nn.functional.relu6(x + 2) / 6,
    "another factor": lambda x: (x + 1) * nn.functional.relu6(x + 3) / 6,
    "divided by 5": lambda x: x * nn.functional.relu6(x + 3) / 5,
    "erf of 2x": lambda x: 0.5 * x * (1 + torch.erf(x * 2)),
}


def prepared(module: nn.Module) -> Graph:
    return prepare(trace(module.eval(), IMAGE, {}, ["out"]).graph, [IMAGE])


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelled_out_activation_becomes_one_node(spelling: str, tmp_path: Path) -> None:
    function, operator = SPELLINGS[spelling]
    traced = trace(Spelled(Lambda(function)).eval(), IMAGE, {}, ["out"]).graph
    before, after = prepare(traced, [IMAGE], []), canonical_activations(prepared(Spelled(Lambda(function))))
    assert after.operators()[operator] == 1
    assert not set(after.operators()) & {"Clip", "Erf", "Div", "Add"}
    assert difference([run(after, IMAGE, tmp_path)], [run(before, IMAGE, tmp_path)]).sqnr_db > 90


@pytest.mark.parametrize("spelling", LOOKALIKES)
def test_what_only_looks_like_an_activation_stays(spelling: str, tmp_path: Path) -> None:
    graph = prepared(Spelled(Lambda(LOOKALIKES[spelling])))
    after = canonical_activations(graph)
    assert not set(after.operators()) & {"HardSwish", "Gelu"}
    assert difference([run(after, IMAGE, tmp_path)], [run(graph, IMAGE, tmp_path)]).sqnr_db > 90


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_means_over_an_image_are_pooled(axes: tuple[int, int], keepdim: bool, tmp_path: Path) -> None:
    graph = prepare(trace(Lambda(lambda image: image.mean(axes, keepdim=keepdim)).eval(), IMAGE, {}, ["out"]).graph, [IMAGE])
    after = pooled_means(graph)
    assert "ReduceMean" not in after.operators()
    np.testing.assert_allclose(run(after, IMAGE, tmp_path)["out"], IMAGE["image"].mean(axes, keepdims=keepdim), atol=1e-6)


def test_other_means_stay() -> None:
    graph = prepare(trace(Lambda(lambda image: image.mean((1, 3))).eval(), IMAGE, {}, ["out"]).graph, [IMAGE])
    assert pooled_means(graph).model is graph.model


def quantized_activation(
    operator: str, scale: float, zero: int, dtype: str, out_scale: float, out_zero: int, *, shared: bool
) -> Graph:
    """``x`` → Q → DQ → activation → Q → DQ → ``y``; where shared, the dequantized input is an output, too."""
    element = TensorProto.UINT8 if dtype == "u8" else TensorProto.INT8
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]),
        helper.make_node(operator, ["x_dq"], ["a"], name="activation", **({"alpha": 1 / 6} if operator == "HardSigmoid" else {})),
        helper.make_node("QuantizeLinear", ["a", "out_scale", "out_zero"], ["a_q"]),
        helper.make_node("DequantizeLinear", ["a_q", "out_scale", "out_zero"], ["a_dq"]),
        helper.make_node("Identity", ["a_dq"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(scale), "scale"),
        numpy_helper.from_array(np.float32(out_scale), "out_scale"),
        numpy_helper.from_array(DTYPES[dtype](zero), "zero"),
        numpy_helper.from_array(DTYPES[dtype](out_zero), "out_zero"),
    ]
    assert element in (TensorProto.UINT8, TensorProto.INT8)
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])]
    if shared:
        nodes.append(helper.make_node("Neg", ["x_dq"], ["z"]))
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n"]))
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])], outputs, constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    return Graph(ir.from_proto(proto))


def activation(operator: str, x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    gate = np.clip(x / 6 + 0.5, 0, 1)
    if operator == "Gelu":
        exact: np.ndarray = nn.functional.gelu(torch.from_numpy(x)).numpy()
        return exact
    return x * gate if operator == "HardSwish" else gate


@settings(max_examples=40)
@given(
    low=st.floats(-12, -0.5),
    high=st.floats(0.5, 14),
    dtype=st.sampled_from(["u8", "s8"]),
    operator=st.sampled_from(["HardSwish", "HardSigmoid", "Gelu"]),
    shared=st.booleans(),
)
def test_integer_activations_are_within_their_bound(
    low: float, high: float, dtype: str, operator: str, shared: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lowest = int(np.iinfo(DTYPES[dtype]).min)
    scale = (high - low) / 255
    zero = int(np.clip(round(lowest - low / scale), lowest, lowest + 255))
    top = float(activation(operator, np.array([high]))[0])
    bottom = {"HardSwish": -0.375, "HardSigmoid": 0.0, "Gelu": -0.17}[operator]
    out_scale = (top - bottom) / 255
    out_zero = int(np.clip(round(lowest - bottom / out_scale), lowest, lowest + 255))
    graph = quantized_activation(operator, scale, zero, dtype, out_scale, out_zero, shared=shared)
    after = integer_activations(graph)

    x = np.linspace(low, high, 997, dtype=np.float32)
    got = run(after, {"x": x}, tmp_path_factory.mktemp("rewrite"))["y"]
    wanted = activation(operator, np.clip(x, low - scale, high + scale))
    # Half a step of the input (slopes are at most 1.5, 1/6 and 1.13), half a step of the output (a whole one where both ends of its
    # range are rounded), and what the form itself is away.
    step = scale if shared or operator != "HardSwish" else 3 / int(3 * 255 / (high + 3))  # it begins at -3, wherever the data does
    slope = {"HardSwish": 1.5, "HardSigmoid": 1 / 6, "Gelu": 1.13}[operator]
    own = {"HardSwish": 0.0, "HardSigmoid": 1 / 250, "Gelu": 0.021 + 1.5 * top / 255}[operator]
    # A tensor that others read keeps its grid, and the knees at -3 and 3 fall beside it by up to half a step.
    uneven = high * scale / 6 if shared and operator == "HardSwish" else 0.0
    bound = slope * step * 0.51 + out_scale * 1.01 + own + uneven
    assert np.abs(got - wanted).max() <= bound
    if operator == "Gelu" or not shared:
        assert operator not in after.operators()


def test_hardswish_is_exact_on_the_quantized_input(tmp_path: Path) -> None:
    """Up to the rounding of its own output, on every one of the 256 values that the input can have."""
    graph = integer_activations(quantized_activation("HardSwish", 9 / 255, 85, "u8", 6.375 / 255, 15, shared=False))
    scale = next(value for name, value in graph.model.graph.initializers.items() if name.endswith("activation_scale"))
    assert scale.const_value is not None
    step = float(scale.const_value.numpy())
    x = np.arange(-60, 175).astype(np.float32) * np.float32(step)
    x = x[x < 6]
    got = run(graph, {"x": x}, tmp_path)["y"]
    assert np.abs(got - activation("HardSwish", x)).max() <= 6.375 / 255 / 2 + 1e-5


def test_an_activation_that_is_not_between_integers_stays(tmp_path: Path) -> None:
    graph = prepared(Spelled(nn.Hardswish()))
    assert integer_activations(graph).operators()["HardSwish"] == 1


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, 8, 1), nn.Conv2d(8, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * nn.functional.hardsigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class MobileLike(nn.Module):
    """What MobileNetV3-like networks are made of: Hardswish, gates, residual sums, concatenation, pooling, resizing, padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.deep = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.gate, self.mix, self.last = Gate(16), nn.Conv2d(16, 16, 1), nn.Conv2d(32, 8, 3)
        self.act, self.head = nn.Hardswish(), nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(image))
        x = x + self.mix(self.gate(self.act(self.deep(x))))
        small = nn.functional.max_pool2d(x, 2)
        x = torch.cat([x, nn.functional.interpolate(small, scale_factor=2, mode="nearest")], 1)
        x = self.act(self.last(nn.functional.pad(x, (1, 1, 1, 1))))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("flavour", ["u8s7", "u8u8"])
def test_nothing_between_the_ends_of_a_mobile_network_is_float(flavour: str, tmp_path: Path) -> None:
    """The counts are asserted, so that an upgrade of onnxruntime that stops a fusion is noticed."""
    graph = prepared(MobileLike())
    feeds = [{"image": DRAW.standard_normal((2, 3, 32, 32)).astype(np.float32)} for _ in range(8)]
    statistics = calibrate(graph, feeds)
    quantized = quantize_static(graph, StaticInt8(FLAVOURS[flavour], "minmax", "everything"), statistics.histograms)
    counts = optimized_operators(quantized.graph, tmp_path)
    assert counts["QLinearConv"] == 6
    assert counts["QLinearMul"] == 3 + 1  # Hardswish three times, the gate once
    assert counts["QLinearAdd"] == 1
    assert counts["QLinearConcat"] == 1
    assert counts["QLinearGlobalAveragePool"] == 2
    assert counts["QGemm"] == 1
    assert counts["QuantizeLinear"] == 1
    assert counts["DequantizeLinear"] == 1
    assert not set(counts) & {"HardSwish", "HardSigmoid", "Conv", "Mul", "Add", "Concat", "ReduceMean", "GlobalAveragePool"}
    precise = SessionConfig(entries={"session.x64quantprecision": "1"})
    quantized.graph.save(tmp_path / "quantized.onnx")
    graph.save(tmp_path / "float.onnx")
    session = open_session(tmp_path / "quantized.onnx", config=precise).session
    outputs = [dict(zip(["out"], session.run(None, feed), strict=True)) for feed in feeds]
    wanted = [load(tmp_path / "float.onnx")(feed) for feed in feeds]
    assert difference(outputs, wanted).sqnr_db > 25


@pytest.mark.parametrize(("activation_", "operator"), [(nn.SiLU(), "QLinearSigmoid"), (nn.GELU(), "QLinearSigmoid")])
def test_sigmoid_gates_are_integer(activation_: nn.Module, operator: str, tmp_path: Path) -> None:
    graph = prepared(Spelled(activation_))
    statistics = calibrate(graph, [IMAGE])
    quantized = quantize_static(graph, StaticInt8(FLAVOURS["u8s7"], "minmax", "everything"), statistics.histograms)
    counts = optimized_operators(quantized.graph, tmp_path)
    assert counts[operator] == 1
    assert counts["QLinearMul"] >= 1
    assert counts["DequantizeLinear"] == 1
    assert not set(counts) & {"Gelu", "Sigmoid"}


def test_convnet_is_the_convolutions_and_what_lies_between_them() -> None:
    class Hybrid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.act = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Hardswish()
            self.norm, self.mlp = nn.LayerNorm(8), nn.Linear(8, 8)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = self.two(self.act(self.one(image))).flatten(2).transpose(1, 2)
            result: torch.Tensor = x + self.mlp(self.norm(x))
            return result

    nodes = Counter(node.op_type for node in nodes_in(prepared(Hybrid()), "convnet"))
    assert nodes == {"Conv": 2, "HardSwish": 1}
    whole = nodes_in(prepared(MobileLike()), "convnet")
    graph = prepared(MobileLike())
    assert len(whole) == sum(graph.operators().values())
