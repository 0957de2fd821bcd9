"""Single-head self-attention whose scale is the whole hidden width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgekit.models.shape_checks import require_features, require_positive


class DynamicAttention(nn.Module):
    """Scaled dot-product self-attention with one head: ``softmax(q kᵀ / √hidden_dim) v``.

    ``q``, ``k`` and ``v`` are Linear layers of the input. There is no positional encoding, so permuting the positions
    permutes the output in the same way, and no mask. This class's usage line in the founding article worked as
    printed; it still does:

    >>> DynamicAttention(hidden_dim=128)(torch.randn(64, 128)).shape
    torch.Size([64, 128])

    Args:
        hidden_dim: Width of the input, of q, k and v, and of the output.

    Raises:
        TypeError: ``hidden_dim`` is not an integer.
        ValueError: ``hidden_dim`` is less than one.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        require_positive("DynamicAttention", hidden_dim=hidden_dim)
        self.hidden_dim = hidden_dim
        self.q = nn.Linear(hidden_dim, hidden_dim)
        self.k = nn.Linear(hidden_dim, hidden_dim)
        self.v = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Let every position attend to every other.

        Args:
            x: (..., positions, hidden_dim).

        Returns:
            (..., positions, hidden_dim).
        """
        require_features("DynamicAttention", "x", x, self.hidden_dim, axes="(..., positions, hidden_dim)", rank=2)
        scores = self.q(x) @ self.k(x).transpose(-2, -1) / math.sqrt(self.hidden_dim)  # (..., positions, positions)
        attended: Tensor = torch.softmax(scores, dim=-1) @ self.v(x)
        return attended
