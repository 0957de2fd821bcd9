"""Infer shapes and types between inputs and outputs, in stages: a stage that fails is noted, and the next one tried.

Requires: nothing. Ensures: nothing but more knowledge; a graph that no stage understands comes back as it was.
"""

import onnx
import onnx_ir as ir
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from edgekit_export.graph import Graph

__all__ = ["infer_shapes"]


def infer_shapes(graph: Graph) -> Graph:
    """The graph with as many shapes as can be found."""
    proto = ir.to_proto(_without_inner_shapes(graph.model))
    if proto.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        return graph.noted("infer shapes", "skipped: over 2 GB, which onnx's inference cannot take")
    failures: list[str] = []
    for name, stage in (("onnx strict", _onnx_strict), ("onnxruntime symbolic", _symbolic), ("onnx lenient", _onnx_lenient)):
        try:
            inferred = stage(proto)
        except Exception as error:  # noqa: BLE001 - the point of the stages: no failure of an inference may stop the work
            failures.append(f"{name} failed ({' '.join(str(error).split())[:120]})")
            continue
        missing = sum(
            value.shape is None for node in ir.from_proto(inferred).graph.all_nodes() for value in node.outputs if value.name
        )
        note = "; ".join([*failures, f"{name}, {missing} values without shape"])
        return Graph(ir.from_proto(inferred), graph.changes).noted("infer shapes", note)
    return graph.noted("infer shapes", "; ".join([*failures, "left without shapes"]))


def _without_inner_shapes(model: ir.Model) -> ir.Model:
    """A copy that has forgotten inner shapes: stale ones make inference fail or mislead it."""
    copy = model.clone()
    for node in copy.graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    return copy


def _onnx_strict(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)


def _symbolic(proto: onnx.ModelProto) -> onnx.ModelProto:
    inferred = SymbolicShapeInference.infer_shapes(proto, auto_merge=True, guess_output_rank=True)
    if not isinstance(inferred, onnx.ModelProto):
        raise TypeError("it gave no model")
    return inferred


def _onnx_lenient(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=False)
