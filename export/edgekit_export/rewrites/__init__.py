"""Rewrites: other ways of writing the same computation, which onnxruntime has integer kernels for."""

from edgekit_export.rewrites.canonical_activations import canonical_activations
from edgekit_export.rewrites.integer_activations import OPERATORS, integer_activations
from edgekit_export.rewrites.pooled_means import pooled_means

__all__ = ["OPERATORS", "canonical_activations", "integer_activations", "pooled_means"]
