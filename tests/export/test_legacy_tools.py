"""The extra legacy-tools: onnxruntime-tools of 2021, in a process of its own."""

import importlib.util
import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgekit_export import Graph, Traced
from edgekit_export import legacy_tools as legacy
from edgekit_export.agreement import agreement_db
from edgekit_runtime.errors import GraphError, MissingExtraError

MISSING = [name for name in legacy.PACKAGES if importlib.util.find_spec(name) is None]
needs_extra = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install '.[legacy-tools]'")

X = np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32)


class Normalized(nn.Module):
    """A feed-forward part, its residual and a normalization: ``(batch, time, 16)`` to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(16, 32), nn.Linear(32, 16), nn.LayerNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(x + self.down(nn.functional.gelu(self.up(x))))
        return normed


def of_2021() -> Graph:
    """As exporters wrote graphs then: opset 11, normalizations and GELU spelled out."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The old exporter is what this is about; torch says that it is old.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Normalized().eval(),
            (torch.from_numpy(X),),
            stream,  # type: ignore[arg-type]  # a stream is taken, the annotation names paths only
            dynamo=False,
            opset_version=11,
            input_names=["x"],
            output_names=["y"],
        )
    return Graph(ir.from_proto(onnx.load_from_string(stream.getvalue())))


def test_a_missing_extra_is_answered_with_the_pip_command(monkeypatch: pytest.MonkeyPatch, conv: Traced) -> None:
    monkeypatch.setattr(legacy, "PACKAGES", ("a_package_that_nobody_has",))
    with pytest.raises(MissingExtraError, match=r"'a_package_that_nobody_has'.*pip install '\.\[legacy-tools\]'"):
        legacy.optimize(conv.graph)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('a reason of its own')", r"failed: a reason of its own; .*use .*fuse_transformer"),
        ("", r"failed: it ended without a word; .*use .*fuse_transformer"),
        ("import time; time.sleep(60)", r"no result after 1 s; use fuse_transformer"),
    ],
)
def test_failures_are_told(program: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, conv: Traced) -> None:
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(legacy, "PACKAGES", ())
    monkeypatch.setattr(legacy, "PROGRAM", tmp_path / "program.py")
    monkeypatch.setattr(legacy, "TIMEOUT_S", 1.0 if "sleep" in program else 60.0)
    with pytest.raises(GraphError, match=words):
        legacy.optimize(conv.graph)


@pytest.mark.extra
@needs_extra
def test_a_graph_of_its_time_is_fused() -> None:
    before, graph = set(sys.modules), of_2021()
    optimized = legacy.optimize(graph)
    normalizations = {"LayerNormalization", "SkipLayerNormalization"} & set(optimized.operators())
    assert len(normalizations) == 1
    assert {"ReduceMean", "Erf"}.isdisjoint(optimized.operators())
    assert {"ReduceMean", "Erf"} <= set(graph.operators())
    assert agreement_db(graph, optimized, [{"x": X}]) > 100
    assert not any(name.startswith("onnxruntime_tools") for name in set(sys.modules) - before)


@pytest.mark.extra
@needs_extra
def test_a_newer_graph_is_refused_with_the_reason(attention: Traced) -> None:
    with pytest.raises(GraphError, match=rf"knows operator sets up to 12, and the graph is of {attention.graph.opset}"):
        legacy.optimize(attention.graph)
