"""onnxruntime-tools 1.7.0 (2021), the old name of ``onnxruntime.transformers``, for graphs that were made for it.

`passes.fuse_transformer` is what to use. This stays for whoever has to reproduce what a pipeline of that time gave. It runs in a
process of its own, since importing it shadows modules that ``onnxruntime.transformers`` needs.

What works today (onnx 1.23, numpy 2.4, onnxruntime 1.31): the package installs and imports, given sympy, which it needs and does
not ask for. It knows operator sets up to 12, where axes are attributes: a BERT exported by TorchScript at opset 11 gets its layer
normalizations, residual adds and GELU fused, not its attention. On newer graphs, such as all that `trace` gives, its shape
inference stops at an assertion about axes that are inputs; `optimize` then says so.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx_ir as ir

from edgekit_export.graph import Graph
from edgekit_runtime.errors import GraphError, MissingExtraError

__all__ = ["PACKAGES", "optimize"]

PACKAGES = ("onnxruntime_tools", "sympy")
NEWEST_OPSET = 12
TIMEOUT_S = 600.0
PROGRAM = Path(__file__).with_name("legacy_process.py")


def optimize(graph: Graph, model_type: str = "bert") -> Graph:
    """The graph with onnxruntime-tools' fusions; compare outputs before using it.

    Args:
        graph: At opset 12 or older.
        model_type: ``bert``, ``bert_tf``, ``bert_keras`` or ``gpt2``.

    Raises:
        MissingExtraError: The extra ``legacy-tools`` is not installed.
        GraphError: The tools failed on the graph; says why.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise MissingExtraError(
            f"onnxruntime-tools needs the package {missing[0]!r}, which is not installed; run this in the checkout: "
            "pip install '.[legacy-tools]' (or use edgekit_export.passes.fuse_transformer, which is kept up)"
        )
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        given, made = Path(folder) / "given.onnx", Path(folder) / "made.onnx"
        graph.save(given)
        # -P: the program's folder holds modules named as some of the standard library's, and must not come first.
        command = [sys.executable, "-P", str(PROGRAM), str(given), str(made), model_type]
        try:
            ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise GraphError(f"onnxruntime-tools: no result after {TIMEOUT_S:.0f} s; use fuse_transformer instead") from error
        if ran.returncode or not made.is_file():
            raise GraphError(_reason(graph, ran.stderr))
        counts = json.loads(ran.stdout.splitlines()[-1])
        detail = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing fused"
        # Not through Graph.read: onnx's checker knows no LayerNormalization of these operator sets, onnxruntime does.
        return Graph(ir.external_data.load_to_model(ir.load(made)), graph.changes).noted("onnxruntime-tools", detail)


def _reason(graph: Graph, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else "it ended without a word"
    where = (
        f"it knows operator sets up to {NEWEST_OPSET}, and the graph is of {graph.opset}"
        if graph.opset > NEWEST_OPSET
        else "the graph is not as it expects it"
    )
    return f"onnxruntime-tools 1.7.0 failed: {last[:300]}; {where}; use edgekit_export.passes.fuse_transformer instead"
