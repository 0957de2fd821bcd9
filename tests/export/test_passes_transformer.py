"""Fusions of transformers: counted, so that an upgrade that stops one is noticed, and the same function of the input."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgekit_export import FLAVOURS, DynamicInt8, Graph, prepare, quantize_dynamic, trace
from edgekit_export.agreement import agreement_db
from edgekit_export.passes import fuse_transformer, separate_residuals
from edgekit_export.passes.fuse_transformer import fused_counts
from edgekit_runtime.errors import GraphError

Feed = dict[str, np.ndarray]
LAYERS = 2
NOTHING_FUSED = dict.fromkeys(
    ("Attention", "MultiHeadAttention", "EmbedLayerNormalization", "SkipLayerNormalization", "BiasGelu", "FastGelu", "QuickGelu"), 0
)


def feed(batch: int = 2, tokens: int = 9) -> Feed:
    """Ids, and masks of which the second text's last tokens are padding."""
    mask = np.ones((batch, tokens), np.int64)
    mask[1:, tokens - 3 :] = 0
    return {"input_ids": np.random.default_rng(tokens).integers(0, 50, (batch, tokens)), "attention_mask": mask}


FEEDS = [feed(), feed(1, 4), feed(3, 12)]


@pytest.fixture(scope="module")
def encoder() -> Graph:
    """MiniLM's encoder as our tracer writes it, with fewer and smaller layers and random weights."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "models" / "bert_encoder.py"
    spec = importlib.util.spec_from_file_location("small_bert_encoder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    model = module.SentenceEncoder(
        module.BertConfig(vocabulary=50, positions=32, width=64, heads=4, layers=LAYERS, hidden=128)
    ).eval()
    axes = {0: "batch", 1: "tokens"}
    traced = trace(model, feed(), {"input_ids": axes, "attention_mask": axes}, ["embedding"], parity=False)
    return prepare(traced.graph, [feed()])


@pytest.fixture(scope="module")
def fused(encoder: Graph) -> Graph:
    return fuse_transformer(encoder, FEEDS)


def test_every_attention_is_fused(encoder: Graph, fused: Graph) -> None:
    normalizations = {"LayerNormalization": 1 + 2 * LAYERS, "Gelu": LAYERS}
    assert fused_counts(encoder) == {**NOTHING_FUSED, **normalizations}
    assert fused_counts(fused) == {**NOTHING_FUSED, **normalizations, "Attention": LAYERS}
    assert fused.changes[-1].detail == f"{LAYERS} Attention"
    assert not {"Softmax", "Transpose"} & set(fused.operators())


def test_masked_texts_of_any_size_come_out_the_same(encoder: Graph, fused: Graph) -> None:
    # Float sums in another order: a hundred dB is a relative error of 1e-5.
    assert agreement_db(encoder, fused, FEEDS) > 100


def test_fused_attention_is_quantized(encoder: Graph, fused: Graph) -> None:
    scheme = DynamicInt8(FLAVOURS["u8s7"])
    quantized = quantize_dynamic(fused, scheme)
    counts = quantized.graph.operators()
    assert counts["QAttention"] == LAYERS
    assert counts["MatMulInteger"] == 3 * LAYERS
    # As exact as without the fusion, to the half bit that other roundings of random weights may cost.
    apart = agreement_db(encoder, quantize_dynamic(encoder, scheme).graph, FEEDS)
    assert agreement_db(encoder, quantized.graph, FEEDS) > apart - 3


def test_nothing_is_left_behind(
    encoder: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The fusion package prints, writes files on failures, and puts folders on sys.path."""
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    fuse_transformer(encoder, FEEDS)
    assert sys.path == path
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_graph_without_attention_stays_and_says_so(prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> None:
    left = fuse_transformer(prepared["conv"], feeds["conv"])
    assert left.model is prepared["conv"].model
    assert left.changes[-1].detail == "left out: no fusion of 'bert' matches"


def test_a_fusion_that_changes_the_outputs_is_left_out(encoder: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    # By its module: the package has a function of that name.
    monkeypatch.setattr(sys.modules["edgekit_export.passes.fuse_transformer"], "agreement_db", lambda *_: 20.0)
    left = fuse_transformer(encoder, FEEDS)
    assert left.model is encoder.model
    assert left.changes[-1].detail == "left out: it changed the outputs (20 dB SQNR)"


def test_a_fusion_that_breaks_is_left_out(encoder: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's fusions index into what they expect to find."""

    def broken(*_: object, **__: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("onnxruntime.transformers.optimizer.optimize_by_fusion", broken)
    left = fuse_transformer(encoder, FEEDS)
    assert left.model is encoder.model
    assert left.changes[-1].detail == "left out: IndexError: list index out of range"


def test_an_unknown_family_is_refused(encoder: Graph) -> None:
    with pytest.raises(GraphError, match=r"no family 'roberta2', only .*bert, "):
        fuse_transformer(encoder, FEEDS, model_type="roberta2")


@pytest.mark.parametrize("graph_of", ["prepared", "fused"])
def test_residual_adds_are_kept_from_the_slow_fusion(encoder: Graph, fused: Graph, graph_of: str, tmp_path: Path) -> None:
    graph = {"prepared": encoder, "fused": fused}[graph_of]
    apart = separate_residuals(graph)
    assert apart.changes[-1].detail == f"{2 * LAYERS} adds"
    assert agreement_db(graph, apart, FEEDS) > 100
    assert opened(apart, tmp_path).get("SkipLayerNormalization", 0) == 0
    if graph_of != "fused":
        # What it is for: onnxruntime fuses them where it knows that both shapes are equal. Should it stop, the pass can go.
        assert opened(graph, tmp_path)["SkipLayerNormalization"] > 0


def test_dynamic_quantization_fuses_attention_and_keeps_residuals_apart(encoder: Graph, tmp_path: Path) -> None:
    quantized = quantize_dynamic(encoder, DynamicInt8(FLAVOURS["u8s7"]), sample=FEEDS).graph
    operators = opened(quantized, tmp_path)
    assert operators["QAttention"] == LAYERS
    assert operators.get("SkipLayerNormalization", 0) == 0
    assert agreement_db(encoder, quantized, FEEDS) > 15


def opened(graph: Graph, folder: Path) -> dict[str, int]:
    """Operators of the graph that onnxruntime runs."""
    graph.save(folder / "given.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "opened.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(folder / "given.onnx"), options, providers=["CPUExecutionProvider"])
    # Not Graph.read: the optimized graph holds operators that onnx's checker does not know.
    return Graph(ir.load(folder / "opened.onnx")).operators()
