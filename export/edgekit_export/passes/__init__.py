"""Graph passes: each takes a graph and returns another, with its change on record. One file, one pass."""

from edgekit_export.passes.along_the_width import along_the_width
from edgekit_export.passes.bias_into_products import bias_into_products
from edgekit_export.passes.collapse_reshapes import collapse_reshapes
from edgekit_export.passes.fix_shapes import fix_shapes
from edgekit_export.passes.fold_batchnorm import fold_batchnorm
from edgekit_export.passes.fold_batchnorm_forward import batchnorm_as_convolution, fold_batchnorm_forward
from edgekit_export.passes.fold_constants import fold_constants
from edgekit_export.passes.fuse_self_attention import fuse_self_attention
from edgekit_export.passes.fuse_transformer import fuse_transformer
from edgekit_export.passes.infer_shapes import infer_shapes
from edgekit_export.passes.name_nodes import name_nodes
from edgekit_export.passes.read_before_rounding import read_before_rounding
from edgekit_export.passes.remove_redundant_qdq import remove_redundant_qdq
from edgekit_export.passes.remove_unused import remove_unused
from edgekit_export.passes.separate_residuals import separate_residuals
from edgekit_export.passes.split_outlier_inputs import split_outlier_inputs
from edgekit_export.passes.strip_metadata import strip_metadata
from edgekit_export.passes.unroll_gru_steps import unroll_gru_steps
from edgekit_export.passes.unshare_weights import unshare_weights
from edgekit_export.passes.upgrade_opset import upgrade_opset

__all__ = [
    "along_the_width",
    "batchnorm_as_convolution",
    "bias_into_products",
    "collapse_reshapes",
    "fix_shapes",
    "fold_batchnorm",
    "fold_batchnorm_forward",
    "fold_constants",
    "fuse_self_attention",
    "fuse_transformer",
    "infer_shapes",
    "name_nodes",
    "read_before_rounding",
    "remove_redundant_qdq",
    "remove_unused",
    "separate_residuals",
    "split_outlier_inputs",
    "strip_metadata",
    "unroll_gru_steps",
    "unshare_weights",
    "upgrade_opset",
]
