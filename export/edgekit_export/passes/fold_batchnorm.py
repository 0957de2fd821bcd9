"""Fold BatchNormalization, and scales and shifts per channel, into the convolution or matrix product before it.

Requires: constants as initializers. Ensures: the same function of the input up to float rounding.
"""

import onnx_ir as ir
from onnxscript.rewriter import RewriteRuleSet, rewrite
from onnxscript.rewriter.rules.common import (
    affine_conv_fusion_rule,
    conv_affine_fusion_rule,
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from edgekit_export.graph import Graph

__all__ = ["fold_batchnorm"]

RULES = RewriteRuleSet(
    [
        fuse_batchnorm_into_conv_rule,
        fuse_batchnorm_into_conv_transpose_rule,
        fuse_batchnorm_into_gemm_rule,
        conv_affine_fusion_rule,
        affine_conv_fusion_rule,
    ]
)


def fold_batchnorm(graph: Graph) -> Graph:
    """The graph with its batch normalizations folded where something precedes that can take them."""

    def edit(model: ir.Model) -> str | None:
        before = sum(1 for _ in model.graph.all_nodes())
        left = sum(node.op_type == "BatchNormalization" for node in model.graph.all_nodes())
        rewrite(model, pattern_rewrite_rules=RULES)
        gone = before - sum(1 for _ in model.graph.all_nodes())
        left = sum(node.op_type == "BatchNormalization" for node in model.graph.all_nodes())
        return f"{gone} folded, {left} left" if gone or left else None

    return graph.changed("fold BatchNormalization", edit)
