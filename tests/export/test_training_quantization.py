"""Quantization-aware training: the exported integers compute what was trained, and what was trained can be trained."""

import copy
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from edgekit_export import FakeQuantized, Graph, prepare, quantization_aware, trace
from edgekit_export.parity import EXACT
from edgekit_export.rewrites import integer_activations
from edgekit_export.training import frozen
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import CalibrationError, CompressionError, ParityError, RecipeError
from edgekit_runtime.session import SessionConfig, open_session
from tests.export.training_modules import Chain, Residual, Transformer, image, sequence

BATCH = {"image": {0: "batch"}}
FREE = {"x": {0: "batch", 1: "time"}}


def built(kind):
    """A module in eval mode whose normalizations have statistics of their own."""
    torch.manual_seed(1)
    module = kind().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.3, 0.3)
            part.running_var.uniform_(0.5, 2.0)
    return module


def faked(kind, **settings_):
    """It, fake-quantized; calibrated on the distribution that the tests draw from."""
    feeds = [(sequence if kind is Transformer else image)(batch=8, seed=100 + seed) for seed in range(8)]
    example, dynamic = (sequence(), FREE) if kind is Transformer else (image(), BATCH)
    return quantization_aware(built(kind), example, feeds, dynamic, ["result"], **{"flavour": "u8s7", **settings_})


def moved(fake):
    """Off the calibrated steps, as training moves it."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in fake.named_parameters():
            if name.endswith(("log_scale", "shift")):
                parameter.add_(0.02 * torch.randn_like(parameter))
            else:
                parameter.mul_(1 + 0.02 * torch.randn_like(parameter))
    return fake


def exact(path):
    """onnxruntime without saturation on x86 without VNNI."""
    session = open_session(path, config=SessionConfig(threads=1, entries=EXACT)).session
    return lambda feed: session.run(None, feed)[0]


def optimized(path: Path, into: Path) -> dict[str, int]:
    """Operators after onnxruntime's own optimizations."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(into)
    options.log_severity_level = 4
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Graph(ir.load(into)).operators()


@pytest.fixture(scope="module", params=[Chain, Residual, Transformer], ids=lambda kind: kind.__name__)
def exported(request, tmp_path_factory):
    """A fake-quantized module off its calibrated steps, its file, and the parity that export reports."""
    fake = moved(faked(request.param)).eval()
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return request.param, fake, path, fake.export(path)


class TestParity:
    """onnxruntime's integers against the fake-quantized module."""

    @settings(max_examples=25)
    @given(batch=st.integers(1, 5), seed=st.integers(0, 2**31), size=st.floats(0.1, 3.0))
    def test_within_one_step_on_any_input(self, exported, batch, seed, size):
        kind, fake, path, _ = exported
        feed = sequence(batch, 4, seed) if kind is Transformer else image(batch, seed)
        feed = {name: array * np.float32(size) for name, array in feed.items()}
        with torch.no_grad():
            wanted = fake(**{name: torch.from_numpy(array) for name, array in feed.items()}).numpy()
        (step,) = fake.frozen().quantized_output_steps
        # Values on the edge between two integers fall on either side, as float sums are taken in another order.
        assert np.abs(exact(path)(feed) - wanted).max() <= step

    def test_export_says_how_near(self, exported):
        _, fake, _, parity = exported
        assert parity.comparisons >= 3
        assert parity.max_abs_diff <= fake.frozen().quantized_output_steps[0]

    def test_a_graph_that_computes_something_else_is_refused(self, monkeypatch):
        fake = faked(Chain)
        right = frozen._dequantized

        def wrong(integers, scale, zero_point, axis):
            exporting = torch.compiler.is_exporting() and integers.dim() == 4 and axis is not None
            return right(integers, scale * 1.5 if exporting else scale, zero_point, axis)

        monkeypatch.setattr(frozen, "_dequantized", wrong)
        with pytest.raises(ParityError, match="differs by"):
            fake.graph()

    @pytest.mark.parametrize(
        ("flavour", "weights"),
        [("u8s8", "per-channel"), ("u8s8", "per-tensor"), ("u8u8", "per-channel"), ("s8s8", "per-channel"), ("s8s7", "per-tensor")],
    )
    def test_all_flavours(self, flavour, weights):
        assert moved(faked(Residual, flavour=flavour, weights=weights)).graph().parity.comparisons

    def test_default_kernels_do_not_saturate_with_seven_bits(self, exported):
        kind, fake, path, _ = exported
        feed = sequence(3, 4, 5) if kind is Transformer else image(3, 5)
        session = open_session(path, config=SessionConfig(threads=1)).session
        with torch.no_grad():
            wanted = fake(**{name: torch.from_numpy(array) for name, array in feed.items()}).numpy()
        assert np.abs(session.run(None, feed)[0] - wanted).max() <= fake.frozen().quantized_output_steps[0]

    def test_unsigned_weights_do_not_saturate_either(self, tmp_path):
        module = built(Residual)
        with torch.no_grad():  # weights of one sign at the end of their range, where sums of two products are largest
            for part in module.modules():
                if isinstance(part, nn.Conv2d):
                    part.weight.abs_()
        feeds = [{"image": np.abs(image(batch=8, seed=seed)["image"]) + 1} for seed in range(4)]
        fake = quantization_aware(module, image(), feeds, BATCH, flavour="u8u8").eval()
        fake.export(tmp_path / "model.onnx")
        session = open_session(tmp_path / "model.onnx", config=SessionConfig(threads=1)).session
        with torch.no_grad():
            wanted = fake(torch.from_numpy(feeds[0]["image"])).numpy()
        # Signed depthwise weights among them: their kernel sums single products in 32 bits.
        assert np.abs(session.run(None, feeds[0])[0] - wanted).max() <= fake.frozen().quantized_output_steps[0]

    def test_frozen_computes_the_same(self, exported):
        kind, fake, _, _ = exported
        feed = sequence(3, 4, 5) if kind is Transformer else image(3, 5)
        tensors = [torch.from_numpy(array) for array in feed.values()]
        with torch.no_grad():
            torch.testing.assert_close(fake.frozen()(*tensors), fake(*tensors), rtol=1e-6, atol=1e-6)


class TestGraph:
    """What is in the exported file, and what onnxruntime makes of it."""

    def test_weights_are_stored_in_integers(self, exported):
        _, fake, path, _ = exported
        graph = onnx.load(path).graph
        stored = {value.name: value for value in graph.initializer}
        made_by = {name: node for node in graph.node for name in node.output}
        layers = 0
        for node in graph.node:
            if node.op_type in ("Conv", "Gemm"):
                weight, bias = made_by[node.input[1]], made_by[node.input[2]]
                assert weight.op_type == bias.op_type == "DequantizeLinear"
                assert stored[weight.input[0]].data_type == onnx.TensorProto.INT8
                assert stored[bias.input[0]].data_type == onnx.TensorProto.INT32
                layers += 1
        assert layers == len(list(fake.layers()))
        assert {node.op_type for node in graph.node if "Quantize" in node.op_type} == {"QuantizeLinear"}
        assert not {"Round", "FakeQuantize", "Clip", "Relu"} & {node.op_type for node in graph.node}

    def test_onnxruntime_fuses_all_layers(self, exported, tmp_path):
        kind, _, path, _ = exported
        counts = optimized(path, tmp_path / "optimized.onnx")
        wanted = {
            Chain: {"QLinearConv": 2, "QGemm": 1},
            Residual: {"QLinearConv": 4, "QGemm": 1, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1},
            Transformer: {"QGemm": 6},
        }[kind]
        assert {name: counts.get(name) for name in wanted} == wanted
        assert not {"Conv", "Gemm", "MatMulIntegerToFloat", "FusedConv"} & set(counts)

    def test_a_plain_network_has_no_float_between_its_ends(self, exported, tmp_path):
        kind, _, path, _ = exported
        if kind is Chain:
            counts = optimized(path, tmp_path / "optimized.onnx")
            assert (counts["QuantizeLinear"], counts.get("DequantizeLinear", 0)) == (1, 0)

    def test_preparing_keeps_it(self, exported):
        kind, fake, _, _ = exported
        traced = fake.graph().graph
        feed = sequence(2, 6) if kind is Transformer else image()
        prepared = prepare(traced, [feed])
        for operator in ("QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"):
            assert prepared.operators().get(operator) == traced.operators().get(operator)

    def test_it_is_smaller(self, exported):
        kind, _, path, _ = exported
        example, dynamic = (sequence(), FREE) if kind is Transformer else (image(), BATCH)
        whole = trace(built(kind), example, dynamic, ["result"]).graph
        sizes = [
            sum(value.const_value.nbytes for value in graph.model.graph.initializers.values())
            for graph in (whole, Graph.read(path))
        ]
        assert sizes[1] < 0.5 * sizes[0]  # scales and reshape targets weigh more in networks this small


class TestTraining:
    """What an optimizer sees."""

    @pytest.mark.parametrize("kind", [Chain, Residual, Transformer])
    def test_gradients_reach_every_parameter(self, kind):
        fake = faked(kind).train()
        example = sequence() if kind is Transformer else image(batch=16)
        fake(*(torch.from_numpy(array) for array in example.values())).square().sum().backward()
        without = [name for name, parameter in fake.named_parameters() if parameter.grad is None]
        assert not without
        scales = [parameter.grad for name, parameter in fake.named_parameters() if name.endswith("log_scale")]
        assert sum(bool(gradient.abs().sum() > 0) for gradient in scales) == len(scales)

    def test_steps_adapt_to_a_loss(self):
        fake = faked(Residual).train()
        optimizer = torch.optim.Adam(fake.parameters(), 1e-2)
        x = torch.from_numpy(image(batch=32, seed=9)["image"])
        target = torch.randn(32, 5, generator=torch.Generator().manual_seed(0))
        losses = []
        for _ in range(30):
            loss = (fake(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0]
        assert all(parameter.abs().max() > 0 for name, parameter in fake.named_parameters() if name.endswith("log_scale"))
        assert fake.eval().graph().parity.comparisons

    def test_dropout_drops_in_training_alone(self):
        fake = faked(Chain)
        x = torch.from_numpy(image()["image"])
        torch.manual_seed(0)
        assert torch.equal(fake.eval()(x), fake(x))
        assert not torch.equal(fake.train()(x), fake(x))

    def test_state_survives_saving_and_loading(self, tmp_path):
        one, other = moved(faked(Residual)).eval(), faked(Residual).eval()
        x = torch.from_numpy(image(seed=4)["image"])
        assert not torch.equal(one(x), other(x))
        save_file(one.state_dict(), tmp_path / "state.safetensors")
        other.load_state_dict(load_file(tmp_path / "state.safetensors"))
        assert torch.equal(one(x), other(x))
        assert one.frozen().quantized_output_steps == other.frozen().quantized_output_steps

    def test_copies_are_their_own(self):
        fake = faked(Residual).eval()
        twin = copy.deepcopy(fake)
        x = torch.from_numpy(image(seed=4)["image"])
        before = fake(x)
        moved(twin)
        assert torch.equal(fake(x), before)
        assert not torch.equal(twin(x), before)
        # The bias's step is that of the copy's own input quantizer.
        for _, layer in twin.layers():
            assert layer.input in list(twin.modules())

    def test_the_module_is_left_as_it_was(self):
        module = built(Residual).train()
        before = copy.deepcopy(module.state_dict())
        fake = quantization_aware(module, image(), [image(batch=4)], BATCH)
        assert fake.training
        assert module.training
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())

    def test_it_starts_near_the_float_module(self):
        for kind in (Chain, Residual, Transformer):
            example = sequence(seed=31) if kind is Transformer else image(batch=8, seed=31)
            tensors = [torch.from_numpy(array) for array in example.values()]
            with torch.no_grad():
                wanted, found = built(kind)(*tensors).numpy(), faked(kind, flavour="u8s8")(*tensors).numpy()
            assert difference([{"x": found}], [{"x": wanted}]).sqnr_db > 25  # far above what a wrong range leaves


class TestRules:
    """What is rounded, and what stays float."""

    def test_layer_norm_softmax_and_residuals_stay_float(self):
        fake = faked(Transformer)
        rounded = {name for name, _ in fake.quantizers()}
        assert len(list(fake.layers())) == 6
        # One for each normalization (shared by query, key and value), what attention gives, and what GELU gives.
        assert len(rounded) == 4
        assert not {name for name in rounded if name.startswith(("softmax", "matmul", "add", "linear"))}

    def test_relu_is_the_quantizer_s_lower_end(self):
        fake = faked(Chain, flavour="s8s8")
        assert [(part.grid.zero_point, part.clamp) for _, part in fake.quantizers()] == [
            (None, (None, None)),  # the image: calibration finds it
            (-128, (0.0, None)),  # ReLU
            (-128, (0.0, 6.0)),  # clamped at 0 and 6
        ]
        with torch.no_grad():
            for _, part in fake.quantizers():
                part.log_scale.fill_(9.0)  # however far training pushes it, what is clamped at 6 stays below
        *_, clamped = (part for _, part in fake.quantizers())
        assert clamped(torch.full((1,), 100.0)).item() == pytest.approx(6.0)
        assert clamped(torch.full((1,), -100.0)).item() == 0.0

    def test_linears_in_a_row_hand_integers_on_through_their_activations(self, tmp_path):
        module = nn.Sequential(
            nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 2)
        )
        x = np.random.default_rng(0).standard_normal((32, 6)).astype(np.float32)
        fake = quantization_aware(module.eval(), {"input": x}, [{"input": x}], {"input": {0: "batch"}}, flavour="u8s7")
        fake.export(tmp_path / "model.onnx")
        counts = optimized(tmp_path / "model.onnx", tmp_path / "optimized.onnx")
        assert (counts["QGemm"], counts["QLinearSigmoid"], counts["QLinearMul"]) == (4, 1, 1)
        assert (counts["QuantizeLinear"], counts["Gelu"]) == (2, 1)  # the input, and what GELU gives in float
        assert "DequantizeLinear" not in counts

    def test_skipped_layers_stay_float(self):
        fake = faked(Residual, skip=["block.depthwise", "head"])
        assert {name for name, _ in fake.layers()} == {"stem_0", "block_widen_0", "block_project_0"}
        operators = fake.graph().graph.operators()
        assert (operators["Conv"], operators["DequantizeLinear"] > 0) == (4, True)

    def test_a_layer_called_twice_has_one_weight(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

            def forward(self, x):
                return self.head(self.layer(self.layer(x).relu()).relu())

        torch.manual_seed(0)
        x = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
        fake = quantization_aware(Twice(), {"x": x}, [{"x": x}], {"x": {0: "batch"}}, flavour="u8s7")
        weights = [part.weight for _, part in fake.layers()]
        assert len(weights) == 3
        assert len({id(weight) for weight in weights}) == 2
        assert fake.graph().parity.comparisons

    def test_two_weights_of_one_module_stay_two(self):
        class Cell(nn.Module):
            def __init__(self):
                super().__init__()
                self.cell, self.head = nn.RNNCell(4, 8), nn.Linear(8, 2)

            def forward(self, x, to):
                own = nn.functional.linear(x, self.cell.weight_ih, self.cell.bias_ih)
                return self.head(torch.tanh(own + nn.functional.linear(to.to(torch.float32), self.cell.weight_hh)))

        draw = np.random.default_rng(0)
        feed = {"x": draw.standard_normal((8, 4)).astype(np.float32), "to": draw.standard_normal((8, 8)).astype(np.float32)}
        torch.manual_seed(0)
        module = Cell().eval()
        fake = quantization_aware(module, feed, [feed], flavour="u8s8")
        assert [layer.weight.shape for _, layer in fake.layers()] == [(8, 4), (8, 8), (2, 8)]
        with torch.no_grad():
            wanted, found = (run(*(torch.from_numpy(array) for array in feed.values())).numpy() for run in (module, fake))
        assert difference([{"x": found}], [{"x": wanted}]).sqnr_db > 25

    def test_names_of_outputs_are_checked(self):
        with pytest.raises(RecipeError, match="are 2 names"):
            quantization_aware(built(Chain), image(), [image()], BATCH, ["one", "two"])

    def test_several_outputs_keep_their_packing(self):
        class Pair(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.other = nn.Linear(4, 3), nn.Linear(4, 2)

            def forward(self, x, y):
                return {"a": self.one(x), "b": (self.other(y), x + y)}

        feed = {"x": np.ones((4, 4), np.float32), "y": np.full((4, 4), 0.5, np.float32)}
        fake = quantization_aware(Pair(), feed, [feed], {"x": {0: "n"}, "y": {0: "n"}}, ["a", "b", "c"], flavour="u8s7")
        found = fake(y=torch.ones(2, 4), x=torch.ones(2, 4))
        assert list(found) == ["a", "b"]
        assert [part.shape for part in found["b"]] == [(2, 2), (2, 4)]
        assert [spec.name for spec in fake.graph().graph.outputs] == ["a", "b", "c"]


class TestRefusals:
    """What cannot be fake-quantized, and why."""

    @pytest.mark.parametrize("wrong", [{"flavour": "u16s8"}, {"flavour": "magic"}, {"weights": "per-row"}])
    def test_settings(self, wrong):
        with pytest.raises(CompressionError, match="there are flavours u8s8, u8s7, u8u8"):
            quantization_aware(built(Chain), image(), [image()], BATCH, **wrong)

    def test_nothing_to_quantize(self):
        with pytest.raises(CompressionError, match="no convolution of one or two axes and no Linear"):
            quantization_aware(nn.Sequential(nn.ReLU()).eval(), {"input": np.ones((2, 3), np.float32)}, [])

    def test_twice(self):
        with pytest.raises(CompressionError, match="it is fake-quantized already"):
            quantization_aware(faked(Chain), image(), [image()], BATCH)

    def test_no_calibration(self):
        with pytest.raises(CalibrationError, match="there is no calibration example"):
            quantization_aware(built(Chain), image(), [], BATCH)

    def test_nan(self):
        broken = image()
        broken["image"][0, 0, 0, 0] = np.nan
        with pytest.raises(CalibrationError, match="tensor 'image' holds NaN or infinity"):
            quantization_aware(built(Chain), image(), [broken], BATCH)

    def test_other_inputs(self):
        with pytest.raises(CalibrationError, match=r"calibration example 1 is \['picture'\], expected \['image'\]"):
            quantization_aware(built(Chain), image(), [image(), {"picture": image()["image"]}], BATCH)

    def test_unknown_submodule(self):
        with pytest.raises(CompressionError, match="skip names 'third'"):
            quantization_aware(built(Chain), image(), [image()], BATCH, skip=["third"])

    def test_writing_into_an_input(self):
        class Writes(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 2)

            def forward(self, x):
                x[:, :2].add_(1.0)
                return self.layer(x)

        with pytest.raises(CompressionError, match="add_ writes in place into"):
            quantization_aware(Writes(), {"x": np.ones((2, 4), np.float32)}, [{"x": np.ones((2, 4), np.float32)}])


class TestIntegerActivations:
    """Hardswish, HardSigmoid and SiLU on steps that their integer forms need: nothing is rounded twice."""

    class Gates(nn.Module):
        """A convolution, its squeeze-excite gate, SiLU and a head."""

        def __init__(self):
            super().__init__()
            self.stem, self.squeeze, self.widen = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
            self.mix, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

        def forward(self, image):
            x = nn.functional.hardswish(self.stem(image))
            gate = nn.functional.hardsigmoid(self.widen(self.squeeze(x.mean((2, 3), keepdim=True)).relu()))
            return self.head(nn.functional.silu(self.mix(x * gate)).mean((2, 3)))

    def test_written_in_integers_they_compute_what_was_trained(self, tmp_path):
        fake = moved(faked(self.Gates)).eval()
        fake.export(tmp_path / "exported.onnx")
        feed = image(batch=8, seed=3)
        graph = integer_activations(prepare(Graph.read(tmp_path / "exported.onnx"), [feed]))
        graph.save(tmp_path / "integers.onnx")
        assert any(change.detail == "2 of 2 activations in integers" for change in graph.changes)
        with torch.no_grad():
            wanted = fake(torch.from_numpy(feed["image"])).numpy()
        assert np.abs(exact(tmp_path / "integers.onnx")(feed) - wanted).max() <= fake.frozen().quantized_output_steps[0]
        counts = optimized(tmp_path / "integers.onnx", tmp_path / "optimized.onnx")
        # Hardswish, the gate's product and SiLU's; the image comes in and logits go out in float.
        assert (counts["QLinearMul"], counts["QLinearSigmoid"], counts["QLinearConv"], counts["QGemm"]) == (3, 1, 4, 1)
        assert (counts["QuantizeLinear"], counts.get("DequantizeLinear", 0)) == (1, 0)

    def test_training_keeps_their_steps_even(self):
        fake = moved(faked(self.Gates))
        for name, part in fake.quantizers():
            if part.grid.start is not None:
                below = part.zero_point() - part.grid.low
                assert below.item() % 1 == 0, name
                assert part.scale().item() * below.item() == pytest.approx(3.0, rel=1e-6)
        assert [part.grid.start for _, part in fake.quantizers()].count(-3.0) == 1
        assert [part.grid.scale for _, part in fake.quantizers() if part.grid.scale] == [6 / 254, 1 / 254]


def test_a_recipe_s_model_may_be_the_fake_quantized_module():
    fake = faked(Chain)
    assert isinstance(fake, FakeQuantized)
    traced = trace(fake.eval(), image(), BATCH, ["result"])
    assert traced.graph.operators()["QuantizeLinear"] == fake.graph().graph.operators()["QuantizeLinear"]
