"""The linear map from a modality's features to the width of a gate, bound early or at the first call."""

from __future__ import annotations

import warnings

from torch import nn
from torch.nn.parameter import is_lazy


def modality_projection(modality_dim: int | None, hidden_dim: int) -> nn.Linear:
    """Build the map (..., modality_dim) -> (..., hidden_dim).

    Args:
        modality_dim: Number of features that describe the modality; None leaves it to the first call.
        hidden_dim: Width of the gate.

    Returns:
        A Linear, or a LazyLinear that becomes one when it first sees features.
    """
    if modality_dim is not None:
        return nn.Linear(modality_dim, hidden_dim)
    with warnings.catch_warnings():
        # torch warns that lazy modules may change; of their behaviour, the tests hold what is relied on here.
        warnings.filterwarnings("ignore", message="Lazy modules are a new feature", category=UserWarning)
        return nn.LazyLinear(hidden_dim)


def bound_width(projection: nn.Linear) -> int | None:
    """Return how many features a projection takes, or None while that is open."""
    return None if is_lazy(projection.weight) else projection.weight.shape[1]
