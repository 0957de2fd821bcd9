"""Infer shapes and types between inputs and outputs, in stages: a stage that fails is noted, and the next one tried.

Requires: nothing. Ensures: nothing but more knowledge; a graph that no stage understands comes back as it was.
"""

import onnx
import onnx_ir as ir
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from edgekit_export.graph import Graph
from edgekit_export.quiet import quiet
from edgekit_export.through_onnx import through_onnx

__all__ = ["infer_shapes"]


def infer_shapes(graph: Graph) -> Graph:
    """The graph with as many shapes as can be found."""
    forgotten = _without_inner_shapes(graph.model)
    notes: list[str] = []
    best: tuple[int, ir.Model] | None = None
    for name, stage in (("onnx strict", _onnx_strict), ("onnxruntime symbolic", _symbolic), ("onnx lenient", _onnx_lenient)):
        try:
            with quiet():
                inferred = through_onnx(forgotten, stage)
        except Exception as error:  # noqa: BLE001 - the point of the stages: no failure of an inference may stop the work
            notes.append(f"{name} failed ({' '.join(str(error).split())[:120]})")
            continue
        missing = sum(_unknown(value) for node in inferred.graph.all_nodes() for value in node.outputs if value.name)
        notes.append(f"{name}, {missing} values without shape")
        if best is None or missing < best[0]:
            best = missing, inferred
        if missing == 0:
            break
    if best is None:
        return graph.noted("infer shapes", "; ".join([*notes, "left without shapes"]))
    return Graph(best[1], graph.changes).noted("infer shapes", "; ".join(notes))


def _without_inner_shapes(model: ir.Model) -> ir.Model:
    """A copy that has forgotten inner shapes: stale ones make inference fail or mislead it."""
    copy = model.clone()
    for node in copy.graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    return copy


def _unknown(value: ir.Value) -> bool:
    """Whether a value is a tensor without shape, or nobody knows what it is; sequences have none."""
    return value.type is None or (isinstance(value.type, ir.TensorType) and value.shape is None)


def _onnx_strict(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)


def _symbolic(proto: onnx.ModelProto) -> onnx.ModelProto:
    # Step by step, since `SymbolicShapeInference.infer_shapes` leaves a file in the current folder where it fails.
    inference = SymbolicShapeInference(2**31 - 1, auto_merge=True, guess_output_rank=True, verbose=0)
    inference._preprocess(proto)
    complete = False
    while inference.run_:
        complete = inference._infer_impl()
    inference._update_output_from_vi()
    if not complete:
        raise ValueError("it is incomplete")
    inferred = inference.out_mp_
    if not isinstance(inferred, onnx.ModelProto):
        raise TypeError("it gave no model")
    return inferred


def _onnx_lenient(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=False)
