"""Upgrade the operator set.

Requires: any opset. Ensures: opset 17 or newer where a converter can do it, and at least 13 in any case, since
per-channel quantization of an older model writes a file that onnxruntime will not load.
"""

from functools import partial

import onnx
import onnx.version_converter

from edgekit_export.graph import Graph
from edgekit_export.through_onnx import through_onnx
from edgekit_runtime.errors import GraphError

__all__ = ["upgrade_opset"]

WANTED = 17
LOWEST = 13


def upgrade_opset(graph: Graph) -> Graph:
    """The graph at opset 17 or newer.

    Raises:
        GraphError: The graph is below opset 13 and cannot be converted.
    """
    if graph.opset >= WANTED:
        return graph
    before = graph.opset
    reason = ""
    for version in (WANTED, LOWEST):
        if before >= version:
            break
        try:
            converted = through_onnx(graph.model, partial(_converted, version=version))
        except Exception as error:  # noqa: BLE001 - the converter raises RuntimeError and worse for what it does not know
            reason = reason or " ".join(str(error).split())[:200]
            continue
        return Graph(converted, graph.changes).noted("upgrade opset", f"{before} to {version}")
    if before >= LOWEST:
        return graph.noted("upgrade opset", f"left at {before}: {reason}")
    raise GraphError(
        f"upgrade opset {before}: onnx's converter cannot take it to {LOWEST}, which int8 needs: {reason}; export the model "
        f"again with opset {WANTED} or newer"
    )


def _converted(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
    converted = onnx.version_converter.convert_version(proto, version)
    onnx.checker.check_model(converted)
    return converted
