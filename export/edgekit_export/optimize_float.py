"""The float model with onnxruntime's own optimizations done beforehand, so that a device opens it sooner."""

import tempfile
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort

from edgekit_export.graph import Graph
from edgekit_export.passes import fuse_self_attention, separate_residuals

__all__ = ["optimize_float"]


def optimize_float(graph: Graph) -> Graph:
    """The graph after onnxruntime's extended optimizations.

    Extended, and not all: the last level lays data out for the processor at hand. A graph that onnxruntime cannot write back
    (over 2 GB, or kernels compiled by a provider) comes back as it was, with the reason on record.
    """
    if graph.oversized:
        return graph.noted("optimize float", "left to the device: over 2 GB")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        given, optimized = Path(folder) / "given.onnx", Path(folder) / "optimized.onnx"
        fused = separate_residuals(fuse_self_attention(graph))
        fused.save(given)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3
        try:
            ort.InferenceSession(str(given), options, providers=["CPUExecutionProvider"])
            model = ir.load(optimized)
        except Exception as error:  # noqa: BLE001 - whatever onnxruntime raises, the graph as it was still holds
            return graph.noted("optimize float", f"left to the device: {' '.join(str(error).split())[:200]}")
    return Graph(model, fused.changes).noted("optimize float", "onnxruntime, extended")
