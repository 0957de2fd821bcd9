"""Recurrent layers: outlier weights are split or spared, GRU steps become products, and the function stays the same."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekit_export import FLAVOURS, DynamicInt8, Graph, prepare, quantize_dynamic, trace
from edgekit_export.agreement import agreement_db
from edgekit_export.passes import split_outlier_inputs, unroll_gru_steps
from edgekit_export.recurrent import LEAST_DB, gate_fidelity, lstm_fidelity, recurrent_to_spare
from edgekit_export.weights import weights

Feed = dict[str, np.ndarray]
# Large enough that torch's exporter does not fold the weights itself: it does up to 8192 elements.
INPUTS, UNITS = 48, 64
INT8 = DynamicInt8(FLAVOURS["u8s7"])


class Recurrent(nn.Module):
    """``(batch, time, 48)`` to ``(batch, time, 3)``."""

    def __init__(self, layer: Callable[..., nn.RNNBase] = nn.LSTM, **options: bool | int) -> None:
        super().__init__()
        self.layer = layer(INPUTS, UNITS, batch_first=True, **options)
        self.head = nn.Linear(UNITS * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        head: torch.Tensor = self.head(self.layer(x)[0])
        return head


def drawn(module: nn.Module) -> nn.Module:
    """Weights of a normal distribution, as trained ones have, rather than the uniform one that torch draws."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for name, weight in module.named_parameters():
            if "weight" in name:
                nn.init.normal_(weight, std=0.3 if "ih" in name else 0.15)
    return module.eval()


def signals(batch: int = 2, time: int = 12, seed: int = 0) -> Feed:
    return {"x": np.random.default_rng(seed).standard_normal((batch, time, INPUTS)).astype(np.float32)}


def traced(module: nn.Module) -> Graph:
    return prepare(trace(module, signals(), {"x": {0: "batch"}}, ["y"], parity=False).graph, [signals(3)])


def with_outliers(inputs: int, factor: float) -> Graph:
    module = drawn(Recurrent())
    with torch.no_grad():
        module.layer.weight_ih_l0[:, :inputs] *= factor  # type: ignore[union-attr,index]
    return traced(module)


def recurrent(graph: Graph, operator: str = "LSTM") -> list[ir.Node]:
    return [node for node in graph.model.graph if node.op_type == operator]


@pytest.mark.parametrize("options", [{"bias": False}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize(("layer", "operator"), [(nn.LSTM, "LSTM"), (nn.GRU, "GRU")])
def test_weights_are_initializers_after_preparing(layer: Callable[..., nn.RNNBase], operator: str, options: dict[str, int]) -> None:
    """torch's exporter hands them over through Slice, Concat and Unsqueeze, where quantizers do not see them."""
    raw = trace(drawn(Recurrent(layer, **options)), signals(), {"x": {0: "batch"}}, ["y"], parity=False)
    assert not any(weight.operator == operator for weight in weights(raw.graph))
    graph = prepare(raw.graph, [signals(3)])
    nodes = recurrent(graph, operator)
    assert len(nodes) == options.get("num_layers", 1)
    assert sum(weight.operator == operator for weight in weights(graph)) == 2 * len(nodes)


def test_fidelity_of_weights_with_known_errors() -> None:
    """One step from 0 to the largest weight is 1/63 in 7 bits; whole steps are exact, half steps lose the most."""
    exact = np.arange(-63, 64, dtype=np.float32).reshape(1, 1, -1)
    assert (
        np.isinf(gate_fidelity(np.ones((1, 4, 8), np.float32), 4, 7)).all() or gate_fidelity(np.ones((1, 4, 8)), 4, 7).min() > 200
    )
    assert gate_fidelity(exact, 1, 7).min() > 200
    halves = np.full((1, 1, 64), 0.5, np.float32)
    halves[..., 0] = 63
    # rint(0.5) is 0: all of it is lost, as much as there is.
    assert gate_fidelity(halves, 1, 7).item() == pytest.approx(0.0, abs=1e-6)


def test_an_ordinary_lstm_is_left_alone_and_quantized() -> None:
    graph = with_outliers(1, 1.0)
    assert split_outlier_inputs(graph) is graph
    assert recurrent_to_spare(graph, FLAVOURS["u8s7"]) == {}


@pytest.mark.parametrize(("inputs", "factor"), [(1, 20.0), (1, 60.0), (2, 15.0)])
def test_outlier_inputs_are_split(inputs: int, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = with_outliers(inputs, factor), [signals(seed=seed) for seed in range(3)]
    split = split_outlier_inputs(graph)
    # The sum of shares is the sum: to float rounding, of which an LSTM's saturating gates let little through.
    assert agreement_db(graph, split, feeds) > 100
    extra = int(split.changes[-1].detail.split()[0])
    assert 0 < extra <= INPUTS // 4
    assert recurrent(split)[0].inputs[1].shape == (1, 4 * UNITS, INPUTS + extra)  # type: ignore[union-attr]
    after = agreement_db(graph, quantize_dynamic(graph, INT8).graph, feeds)
    monkeypatch.setattr("edgekit_export.quantize.split_outlier_inputs", lambda given: given)
    monkeypatch.setattr("edgekit_export.quantize.recurrent_to_spare", lambda *_: {})
    before = agreement_db(graph, quantize_dynamic(graph, INT8).graph, feeds)
    # The outputs gain 4 to 15 dB; weights of a normal distribution, as all others are here, allow no more.
    assert after > before + 3


def test_a_layer_that_cannot_be_split_is_spared_with_the_reason() -> None:
    graph = with_outliers(INPUTS // 2, 200.0)
    assert split_outlier_inputs(graph) is graph
    spared = recurrent_to_spare(graph, FLAVOURS["u8s7"])
    name = str(recurrent(graph)[0].name)
    assert list(spared) == [name]
    assert "stays float: outliers would leave its input weights of gate" in spared[name]
    assert f"{LEAST_DB:.0f} dB are needed" in spared[name]


def test_outliers_among_the_weights_of_the_state_are_told() -> None:
    module = drawn(Recurrent(bidirectional=True))
    with torch.no_grad():
        module.layer.weight_hh_l0_reverse[2 * UNITS : 3 * UNITS, 0] *= 300.0  # type: ignore[union-attr,index]
    spared = recurrent_to_spare(traced(module), FLAVOURS["u8s7"])
    # torch's third gate is the candidate, ONNX's c.
    assert "recurrent weights of gate c, backward" in next(iter(spared.values()))


def test_eight_bits_keep_six_decibels_more_than_seven() -> None:
    node = recurrent(with_outliers(1, 1.0))[0]
    seven, eight = lstm_fidelity(node, 7), lstm_fidelity(node, 8)
    assert seven is not None
    assert eight is not None
    assert eight.least_db - seven.least_db == pytest.approx(6.0, abs=1.0)


def test_a_gru_stays_float_and_that_is_said() -> None:
    spared = recurrent_to_spare(traced(drawn(Recurrent(nn.GRU))), FLAVOURS["u8s7"])
    assert next(iter(spared.values())).endswith("stays float: onnxruntime has no integer kernel for it")


def gru(before_reset: int, *, bias: bool, state: bool, time: int = 1, outputs: tuple[str, ...] = ("y", "h")) -> Graph:
    """A GRU alone, with weights of its own choice."""
    draw = np.random.default_rng(before_reset + 2 * bias + 4 * state)
    arrays = {
        "w": draw.standard_normal((1, 3 * UNITS, INPUTS)) * 0.3,
        "r": draw.standard_normal((1, 3 * UNITS, UNITS)) * 0.3,
        "b": draw.standard_normal((1, 6 * UNITS)),
    }
    inputs = ["x", "w", "r", "b" if bias else "", "", "s" if state else ""]
    node = helper.make_node("GRU", inputs, list(outputs), hidden_size=UNITS, linear_before_reset=before_reset)
    floats = TensorProto.FLOAT
    shapes = {"y": [time, 1, "batch", UNITS], "h": [1, "batch", UNITS]}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", floats, [time, "batch", INPUTS])]
        + [helper.make_tensor_value_info("s", floats, [1, "batch", UNITS])] * state,
        [helper.make_tensor_value_info(name, floats, shapes[name]) for name in outputs if name],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items() if bias or name != "b"],
    )
    return Graph(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)))


@settings(max_examples=12)
@given(
    before_reset=st.integers(0, 1),
    bias=st.booleans(),
    state=st.booleans(),
    batch=st.integers(1, 4),
    outputs=st.sampled_from([("y", "h"), ("y",), ("", "h")]),
)
def test_one_step_of_a_gru_becomes_products(
    before_reset: int, bias: bool, state: bool, batch: int, outputs: tuple[str, ...]
) -> None:
    graph = gru(before_reset, bias=bias, state=state, outputs=outputs)
    unrolled = unroll_gru_steps(graph)
    assert "GRU" not in unrolled.operators()
    assert unrolled.operators()["MatMul"] == 1 + state * (1 if before_reset else 2)
    draw = np.random.default_rng(batch)
    feed = {"x": draw.standard_normal((1, batch, INPUTS)).astype(np.float32)}
    if state:
        feed["s"] = draw.uniform(-1, 1, (1, batch, UNITS)).astype(np.float32)
    # float32 sums in another order; onnxruntime's own sigmoid and tanh are exact to about 1e-6.
    assert agreement_db(graph, unrolled, [feed]) > 100


def test_an_unrolled_step_is_quantized() -> None:
    graph = gru(1, bias=True, state=True)
    feed = {"x": signals(1, 3)["x"], "s": np.zeros((1, 3, UNITS), np.float32)}
    quantized = quantize_dynamic(prepare(unroll_gru_steps(graph), [feed]), INT8)
    assert quantized.left_float == ()
    assert quantized.graph.operators()["MatMulInteger"] == 2
    # 7 bits of weights alone would leave 35 dB.
    assert agreement_db(graph, quantized.graph, [feed]) > 30


def test_a_gru_over_time_stays_as_it_is() -> None:
    graph = gru(1, bias=True, state=True, time=5)
    assert unroll_gru_steps(graph) is graph
