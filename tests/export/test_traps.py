"""Traps that quantizers of onnxruntime set on real networks, each with a test that edgekit does not fall in.

By number. Those with a test beside what they are about are there, the others here:

1.  Weights of LSTM and GRU behind Slice and Concat stay float; outliers wreck them: ``test_passes_recurrent.py``.
2.  `quantize_dynamic` trips over the shapes of torch's exporter: ``test_quantize.py::test_dynamic``.
3.  Per-channel at opset 12 writes a file that does not load: ``test_passes.py::test_old_operator_sets_are_upgraded…``.
4.  Weights in Constant nodes are silently left: ``test_passes.py::test_weights_in_constant_nodes_become_initializers``.
5.  Conv → ReLU → BatchNorm does not fold: ``test_passes_batchnorm.py``.
6.  Static int8 of everything destroys a transformer: here.
7.  Histogram methods can ruin what min-max keeps: here.
8.  ConvInteger is slow: ``test_quantize.py::test_dynamic``.
9.  Calibration holds every tensor in memory: ``test_calibration.py::test_memory_does_not_grow_with_the_data``.
10. A calibration cache that checks neither model nor data: ``test_calibration_state.py``.
11. SmoothQuant imports a module that is gone: here.
12. A failing shape inference aborts everything: ``test_passes.py::test_shape_inference_goes_on_where_strict_mode_fails``.
13. The exporter's defaults: no verification, no fallback: here.
14. LSTM outputs declared ``[1, …]``: ``test_passes.py::test_shapes_from_a_tracer_are_forgotten``, and here.
15. Files left in the current folder: ``test_prepare.py::test_no_files_are_left_behind``.
16. LSTM stays float in static int8, unsaid: ``test_quantize.py::test_a_static_scheme_says_that_an_lstm_stays_float``.
17. Masks of minus the largest float: ``test_calibration.py``, ``test_quantize.py::test_masks_stay_out_of_every_placement…``, here.
18. Segmentation faults on loading: ``tests/runtime/test_fresh_process.py``; `edgekit.labs.host.HostLab.fresh` is made of it.
"""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit_export import (
    FLAVOURS,
    METHODS,
    DynamicInt8,
    Graph,
    StaticInt8,
    calibrate,
    prepare,
    quantize_dynamic,
    quantize_static,
    ranges_from,
    trace,
)
from edgekit_export.agreement import agreement_db
from edgekit_runtime.errors import ParityError

Feed = dict[str, np.ndarray]
FLAVOUR = FLAVOURS["u8s7"]


class Outlying(nn.Module):
    """A feed-forward part with a channel hundreds of times as large as the others, as trained transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.scale = nn.Parameter(torch.ones(32))
        self.scale.data[5] = 200.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outlying = torch.nn.functional.layer_norm(x, (32,)) * self.scale
        moved: torch.Tensor = x + self.down(torch.nn.functional.gelu(self.up(outlying / 4)) * 4)
        return moved


@pytest.fixture(scope="module")
def outlying() -> tuple[Graph, list[Feed]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Outlying().eval()
        with torch.no_grad():
            module.up.weight[:, 5] *= 0.005
    draw = np.random.default_rng(0)
    feeds = [{"x": draw.standard_normal((2, 12, 32)).astype(np.float32)} for _ in range(4)]
    return prepare(trace(module, feeds[0], {"x": {0: "batch"}}, ["y"], parity=False).graph, feeds[:1]), feeds


def test_trap_6_a_transformer_has_better_than_static_int8_of_everything(
    prepared: dict[str, Graph], feeds: dict[str, list[Feed]], statistics: dict[str, object]
) -> None:
    """Static int8 of everything in a transformer destroys it; per-channel dynamic MatMul keeps it."""
    graph, some = prepared["attention"], feeds["attention"]
    histograms = statistics["attention"].histograms  # type: ignore[attr-defined]
    everything = quantize_static(graph, StaticInt8(FLAVOUR, "minmax", "everything"), histograms).graph
    weighted = quantize_static(graph, StaticInt8(FLAVOUR, "minmax", "weighted"), histograms).graph
    dynamic = quantize_dynamic(graph, DynamicInt8(FLAVOUR)).graph
    assert agreement_db(graph, everything, some) < 30
    # 45 dB and more were seen of both; one bit less would still be a good result.
    assert min(agreement_db(graph, one, some) for one in (weighted, dynamic)) > 40


def test_trap_7_all_methods_come_of_one_calibration_so_that_the_metric_can_choose() -> None:
    """Histogram calibration (percentile, entropy) can ruin a model that min-max keeps: choose by the task's metric."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    draw = np.random.default_rng(1)
    feeds = [{"input": draw.standard_normal((64, 8)).astype(np.float32)} for _ in range(4)]
    feeds[2]["input"][3] *= 60.0  # one example in 256 is loud, and is what the outputs' energy is made of
    graph = prepare(trace(module, feeds[0], {"input": {0: "batch"}}, ["y"], parity=False).graph, feeds[:1])
    histograms = calibrate(graph, feeds).histograms
    quality = {}
    for method in METHODS:
        assert set(ranges_from(histograms, method).bounds) == set(histograms)
        quality[method] = agreement_db(
            graph, quantize_static(graph, StaticInt8(FLAVOUR, method, "weighted"), histograms).graph, feeds
        )
    # 20 dB and 2 were seen: the loud example needs the range, and has most of the energy.
    assert quality["minmax"] > quality["entropy"] + 10


def test_trap_11_smoothquant_is_our_own(outlying: tuple[Graph, list[Feed]]) -> None:
    """onnxruntime's SmoothQuant=True imports a neural_compressor module that no longer exists."""
    graph, feeds = outlying
    histograms = calibrate(graph, feeds).histograms
    plain, smoothed = (
        quantize_static(graph, StaticInt8(FLAVOUR, "minmax", "weighted", corrections=corrections), histograms, sample=feeds).graph
        for corrections in ((), ("smoothed",))
    )
    assert not any(name.startswith("neural_compressor") for name in sys.modules)
    assert agreement_db(graph, smoothed, feeds) > agreement_db(graph, plain, feeds) + 6


class Restless(nn.Module):
    """Adds noise, which an exporter freezes or redraws: no graph of it computes what it computes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def test_trap_13_we_ask_for_the_exporter_and_verify_ourselves() -> None:
    """In torch.onnx.export, dynamo=True, verify=False are the defaults; the fallback option is gone."""
    parameters = inspect.signature(torch.onnx.export).parameters
    assert parameters["dynamo"].default is True
    assert parameters["verify"].default is False
    # Deprecated or gone: in either case `trace` has routes of its own.
    assert "fallback" not in parameters or parameters["fallback"].default is False
    with pytest.raises(ParityError):
        trace(Restless().eval(), {"x": np.ones((2, 3), np.float32)}, {"x": {0: "batch"}}, ["y"])


def test_trap_14_a_larger_batch_runs_without_shape_warnings(tmp_path: Path) -> None:
    """With an example of batch 1 and a dynamic batch axis, the exporter declares LSTM outputs as [1, …]."""
    module = nn.LSTM(8, 16, batch_first=True).eval()
    feed = {"input": np.ones((1, 7, 8), np.float32)}
    traced = trace(module, feed, {"input": {0: "batch"}}, ["states", "hidden", "cell"])
    prepare(traced.graph, [feed]).save(tmp_path / "lstm.onnx")
    program = (
        "import sys, numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "outputs = session.run(None, {'input': numpy.ones((5, 7, 8), 'float32')})\n"
        "print([list(output.shape) for output in outputs])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lstm.onnx")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[[5, 7, 16], [1, 5, 16], [1, 5, 16]]"
    assert ran.stderr == ""


def test_trap_17_no_scale_covers_a_mask(prepared: dict[str, Graph], statistics: dict[str, object]) -> None:
    """An attention mask of −3.4e38 is calibrated into a scale of 1.3e36 and destroys the model."""
    graph, histograms = prepared["attention"], statistics["attention"].histograms  # type: ignore[attr-defined]
    for placement in ("linear", "weighted"):
        quantized = quantize_static(graph, StaticInt8(FLAVOUR, "minmax", placement), histograms).graph  # type: ignore[arg-type]
        scales = [
            value.const_value.numpy().max()
            for node in quantized.model.graph
            if node.op_type == "QuantizeLinear" and (value := node.inputs[1]) is not None and value.const_value is not None
        ]
        assert scales
        assert max(scales) < 1.0
