"""Graph passes: each takes a graph and returns another, with its change on record. One file, one pass."""

from edgekit_export.passes.fix_shapes import fix_shapes
from edgekit_export.passes.fold_batchnorm import fold_batchnorm
from edgekit_export.passes.fold_constants import fold_constants
from edgekit_export.passes.infer_shapes import infer_shapes
from edgekit_export.passes.name_nodes import name_nodes
from edgekit_export.passes.remove_unused import remove_unused
from edgekit_export.passes.strip_metadata import strip_metadata
from edgekit_export.passes.unshare_weights import unshare_weights
from edgekit_export.passes.upgrade_opset import upgrade_opset

__all__ = [
    "fix_shapes",
    "fold_batchnorm",
    "fold_constants",
    "infer_shapes",
    "name_nodes",
    "remove_unused",
    "strip_metadata",
    "unshare_weights",
    "upgrade_opset",
]
