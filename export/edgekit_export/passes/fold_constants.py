"""Compute what does not depend on the input, and keep every constant as an initializer.

Requires: nothing. Ensures: no Constant nodes, and no weight behind Slice, Concat or Transpose, where quantizers would not
see it (LSTM weights as torch exports them, for one).
"""

from functools import partial

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript import optimizer

from edgekit_export.graph import Graph

__all__ = ["fold_constants"]

# Larger results than this (elements) are recomputed on the device rather than stored.
LARGEST_RESULT = 64 * 1024 * 1024
LARGEST_INPUT = 1 << 40
# Their result would undo the quantization of a weight that is stored in integers.
KEEP = frozenset({"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"})


def fold_constants(graph: Graph) -> Graph:
    """The graph with constants folded and stored as initializers."""

    def edit(model: ir.Model) -> str | None:
        before = sum(1 for _ in model.graph.all_nodes())
        # Identity first: torch hands shared weights on through it, which would keep them from being seen as constants.
        common.IdentityEliminationPass()(model)
        optimizer.fold_constants(
            model,
            onnx_shape_inference=False,
            input_size_limit=LARGEST_INPUT,
            output_size_limit=LARGEST_RESULT,
            should_fold=lambda node: False if node.op_type in KEEP else (True if _grows_little(node) else None),
        )
        _own_tensors(model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        common.LiftSubgraphInitializersToMainGraphPass()(model)
        common.RemoveUnusedNodesPass()(model)
        after = sum(1 for _ in model.graph.all_nodes())
        return f"{before - after} nodes gone" if before != after else None

    return graph.changed("fold constants", edit)


def _own_tensors(model: ir.Model) -> None:
    """Gives Constant nodes tensors of their own: copies of a model share them, and lifting renames what it lifts."""
    for node in model.graph.all_nodes():
        attribute = node.attributes.get("value") if node.op_type == "Constant" else None
        if attribute is not None and attribute.type == ir.AttributeType.TENSOR:
            shared = attribute.as_tensor()
            own = ir.LazyTensor(
                partial(_itself, shared), dtype=shared.dtype, shape=ir.Shape(shared.shape.numpy()), name=shared.name
            )
            node.attributes["value"] = ir.AttrTensor("value", own)


def _itself(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return tensor


def _grows_little(node: ir.Node) -> bool:
    """Whether the result is about as large as what it is made of."""
    return node.op_type in {"Slice", "Concat", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Cast", "Gather", "Split"}
