"""What a process needs that opens a model of one node: the floor under every peak memory that is measured in fresh processes."""

import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from edgekit_runtime.fresh_process import run_in_fresh_process
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["empty_rss_bytes"]

STARTS = 3


def empty_rss_bytes(provider: Provider | None = None) -> int | None:
    """Peak resident memory of a fresh process around an Identity, in bytes; ``None`` where the system does not tell.

    Interpreter, numpy and onnxruntime are most of what a small model's process holds. What a candidate saves is what it needs
    less above this.

    Args:
        provider: The execution provider whose libraries are to be loaded; the CPU's where left out.

    Raises:
        SessionError: The provider cannot run even that.
    """
    import onnx
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["batch", 1]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["given"], ["same"])],
        "empty",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, shape)],
    )
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "empty.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        feed = {"given": np.zeros((1, 1), np.float32)}
        runs = [run_in_fresh_process(path, feed, provider or Provider(), SessionConfig()) for _ in range(STARTS)]
    peaks = [run.peak_rss_bytes for run in runs if run.peak_rss_bytes is not None]
    return int(median(peaks)) if peaks else None
