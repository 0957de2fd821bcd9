"""Fake-quantization's arithmetic: forward as ONNX defines it, backward as LSQ does."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from edgekit_export.training.fake_quantization import fake_quantize
from edgekit_export.training.quantizers import ActivationQuantizer, Grid, WeightQuantizer

SIGNED, UNSIGNED = Grid(-128, 127, torch.int8, 0), Grid(0, 255, torch.uint8, None)
VALUES = hnp.arrays(np.float32, 64, elements=st.floats(-100, 100, width=32))


@pytest.fixture(scope="module")
def onnx_there_and_back():
    """QuantizeLinear and DequantizeLinear in onnxruntime, one after the other."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    types = {"x": TensorProto.FLOAT, "scale": TensorProto.FLOAT, "zero": TensorProto.UINT8}
    inputs = [helper.make_tensor_value_info(name, kind, [None] if name == "x" else []) for name, kind in types.items()]
    graph = helper.make_graph(nodes, "both", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options)


@given(values=VALUES, scale=st.floats(2**-10, 2.0, width=32), zero=st.integers(0, 255))
def test_forward_is_that_of_onnx_to_the_bit(onnx_there_and_back, values, scale, zero):
    feed = {"x": values, "scale": np.array(scale, np.float32), "zero": np.array(zero, np.uint8)}
    (wanted,) = onnx_there_and_back.run(None, feed)
    found = fake_quantize(torch.from_numpy(values), torch.tensor(np.float32(scale)), torch.tensor(float(zero)), 0, 255)
    assert np.array_equal(found.numpy(), wanted)


@given(values=VALUES, scale=st.floats(2**-4, 1.0, width=32), zero=st.integers(0, 255))
def test_gradients_are_those_of_lsq(values, scale, zero):
    """One step for all is computed by sums, and must agree with the formula of the papers, value by value."""
    x = torch.from_numpy(values).requires_grad_()
    step, point = torch.tensor(scale, requires_grad=True), torch.tensor(float(zero), requires_grad=True)
    gradient = torch.linspace(-1, 1, len(values))
    fake_quantize(x, step, point, 0, 255).backward(gradient)
    exact = values.astype(np.float64) / np.float64(np.float32(scale))
    rounded = np.round(exact) + zero
    # On the very edge of the range either side may be taken.
    edge = np.minimum(np.abs(exact + zero + 0.5), np.abs(exact + zero - 255.5)) < 1e-3
    inside = (rounded >= 0) & (rounded <= 255)
    assert np.array_equal(x.grad.numpy()[~edge], (gradient.numpy() * inside)[~edge])
    # Half-way between two integers, float32 and float64 may round to different ones.
    ties = np.abs(np.abs(exact - np.trunc(exact)) - 0.5) < 1e-6 * np.maximum(np.abs(exact), 1)
    if not (edge | ties).any():
        for_step = np.where(inside, np.round(exact) - exact, np.clip(rounded, 0, 255) - zero)
        for_point = np.where(inside, 0.0, -np.float64(np.float32(scale)))
        weights = gradient.numpy().astype(np.float64)
        # Sums of float32 numbers as large as the values in steps.
        assert step.grad.item() == pytest.approx(float((weights * for_step).sum()), abs=1e-5 * np.abs(exact).sum() + 1e-6)
        assert point.grad.item() == pytest.approx(float((weights * for_point).sum()), abs=1e-4)


def test_memory_layout_changes_nothing():
    torch.manual_seed(0)
    plain = torch.randn(2, 8, 5, 5)
    found = []
    for x in (plain.clone(), plain.clone().to(memory_format=torch.channels_last), plain.clone().transpose(2, 3)):
        step = torch.tensor(0.05, requires_grad=True)
        fake_quantize(x.requires_grad_(), step, torch.tensor(10.0), 0, 40).sum().backward()
        found.append(step.grad.item())
    assert found == pytest.approx([found[0]] * 3, rel=1e-4)


@given(values=VALUES, shift=st.floats(-1, 1, width=32), log_scale=st.floats(-3, 3, width=32))
def test_zero_is_always_a_step_whatever_training_does(values, shift, log_scale):
    quantizer = ActivationQuantizer("x", UNSIGNED)
    quantizer(torch.from_numpy(values))
    quantizer.settle("minmax")
    with torch.no_grad():
        quantizer.shift.fill_(shift)
        quantizer.log_scale.fill_(log_scale)
        assert float(quantizer(torch.zeros(1))) == 0.0
        assert 0 <= quantizer.zero_point().item() <= 255
        assert quantizer.zero_point().item() % 1 == 0
        assert quantizer.scale() > 0


@given(values=VALUES)
def test_minmax_ranges_lose_no_more_than_half_a_step(values):
    for grid in (SIGNED, UNSIGNED):
        quantizer = ActivationQuantizer("x", grid)
        x = torch.from_numpy(values)
        assert torch.equal(quantizer(x), x)  # it observes
        quantizer.settle("minmax")
        with torch.no_grad():
            # The zero point is rounded too: the ends may lie half a step further in.
            assert (quantizer(x) - x).abs().max() <= 1.001 * quantizer.scale() + 1e-7


def test_per_channel_steps_fit_each_channel():
    weight = (
        torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-3, 1.0, 10.0, 0.0])[:, None, None, None]
    )
    for per_channel in (True, False):
        quantizer = WeightQuantizer(weight, SIGNED, per_channel=per_channel)
        integers = quantizer.integers(weight)
        assert integers.dtype == torch.int8
        scale = quantizer.scale().reshape(-1, 1, 1, 1) if per_channel else quantizer.scale()
        assert torch.allclose(integers * scale, quantizer(weight), atol=1e-7)
        assert (integers[0].unique().numel() > 10) is per_channel  # small beside the others


def test_a_state_dict_says_whether_it_was_calibrated():
    one, other = ActivationQuantizer("x", UNSIGNED), ActivationQuantizer("x", UNSIGNED)
    one(torch.linspace(-1, 2, 50)[None])
    one.settle("mse")
    other.load_state_dict(one.state_dict())
    x = torch.linspace(-2, 3, 64)
    assert torch.equal(one(x), other(x))
    assert not torch.equal(other(x), x)
