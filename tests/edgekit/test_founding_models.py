"""The four classes of the founding article, from PyTorch through export and int8 to the runtime."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.models import AdaptiveEmbedding, DynamicAttention, ModalEmbeddingLayer, UnifiedMultimodalModel
from edgekit_export import FLAVOURS, DynamicInt8, StaticInt8, calibrate, prepare, quantize_dynamic, quantize_static, trace
from edgekit_runtime import load
from edgekit_runtime.accuracy import difference

# The article's own sizes and modality features.
THREE = np.array([0.1, 0.5, 0.9], np.float32)
TWO = np.array([0.3, 0.7], np.float32)
MODELS = {
    "dynamic attention": (lambda: DynamicAttention(hidden_dim=128), {}),
    "adaptive embedding": (lambda: AdaptiveEmbedding(input_dim=128, hidden_dim=256), {"mod_type": THREE}),
    "modal embedding": (lambda: ModalEmbeddingLayer(input_dim=128, hidden_dim=256), {"mod_type": TWO}),
    "unified multimodal": (lambda: UnifiedMultimodalModel(hidden_dim=128, mod_type=torch.tensor([0.1, 0.5, 0.9])), {}),
}
# Weights of one layer are rounded to 1/255 of their range, about 40 dB; three layers and the activations add to that.
LEAST_SQNR_DB = 25.0


def feeds(extra, count, seed):
    draw = np.random.default_rng(seed)
    return [{"x": draw.standard_normal((64, 128), np.float32), **extra} for _ in range(count)]


@pytest.fixture(scope="module", params=MODELS)
def traced(request):
    torch.manual_seed(0)
    build, extra = MODELS[request.param]
    example = feeds(extra, 1, seed=0)[0]
    return trace(build().eval(), example, {"x": {0: "positions"}}, ["y"]), extra


def outputs(graph, path, inputs):
    graph.save(path)
    model = load(path)
    return [model(feed) for feed in inputs]


def test_the_exported_model_equals_the_module_at_any_number_of_positions(traced):
    result, _ = traced
    assert result.parity is not None
    assert set(result.parity.sizes["positions"]) >= {1, 2, 3}
    assert result.parity.sqnr_db > 100


@pytest.mark.parametrize("flavour", ["u8u8", "u8s7"])
def test_static_int8_runs_in_the_runtime_close_to_float(traced, flavour, tmp_path: Path):
    result, extra = traced
    inputs = feeds(extra, 4, seed=1)
    graph = prepare(result.graph, inputs[:1])
    statistics = calibrate(graph, feeds(extra, 8, seed=2))
    quantized = quantize_static(graph, StaticInt8(FLAVOURS[flavour], "minmax", "linear"), statistics.histograms)
    assert quantized.kind == "int8"
    found = difference(outputs(quantized.graph, tmp_path / "int8.onnx", inputs), [result.model(feed) for feed in inputs])
    assert found.sqnr_db > LEAST_SQNR_DB


@pytest.mark.parametrize("flavour", ["u8u8", "u8s7"])
def test_dynamic_int8_runs_in_the_runtime_close_to_float(traced, flavour, tmp_path: Path):
    result, extra = traced
    inputs = feeds(extra, 4, seed=1)
    graph = prepare(result.graph, inputs[:1])
    quantized = quantize_dynamic(graph, DynamicInt8(FLAVOURS[flavour]))
    assert quantized.kind == "int8"
    found = difference(outputs(quantized.graph, tmp_path / "int8.onnx", inputs), [result.model(feed) for feed in inputs])
    assert found.sqnr_db > LEAST_SQNR_DB
