"""Self-attention split over several heads, each with its own scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgekit.models.shape_checks import require_features, require_positive


class MultiHeadDynamicAttention(nn.Module):
    """Dynamic attention in ``heads`` subspaces of width ``head_dim = hidden_dim / heads``, then an output projection.

    Every head computes ``softmax(q kᵀ / √head_dim) v`` on its slice of q, k and v. With one head and an identity
    projection this is :class:`~edgekit.models.DynamicAttention`.

    >>> MultiHeadDynamicAttention(hidden_dim=96, heads=4)(torch.randn(2, 49, 96)).shape
    torch.Size([2, 49, 96])

    Args:
        hidden_dim: Width of the input and of the output; a multiple of ``heads``.
        heads: Number of heads.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is less than one, or ``hidden_dim`` is not a multiple of ``heads``.
    """

    def __init__(self, hidden_dim: int, heads: int) -> None:
        super().__init__()
        require_positive("MultiHeadDynamicAttention", hidden_dim=hidden_dim, heads=heads)
        if hidden_dim % heads:
            raise ValueError(
                f"MultiHeadDynamicAttention: hidden_dim={hidden_dim} does not divide into heads={heads} equal heads; "
                "choose hidden_dim as a multiple of heads"
            )
        self.hidden_dim = hidden_dim
        self.heads = heads
        self.head_dim = hidden_dim // heads
        self.q = nn.Linear(hidden_dim, hidden_dim)
        self.k = nn.Linear(hidden_dim, hidden_dim)
        self.v = nn.Linear(hidden_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Let every position attend to every other, in each head.

        Args:
            x: (..., positions, hidden_dim).

        Returns:
            (..., positions, hidden_dim).
        """
        require_features("MultiHeadDynamicAttention", "x", x, self.hidden_dim, axes="(..., positions, hidden_dim)", rank=2)
        q, k, v = (self._split(project(x)) for project in (self.q, self.k, self.v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)  # (..., heads, positions, positions)
        attended = torch.softmax(scores, dim=-1) @ v  # (..., heads, positions, head_dim)
        merged: Tensor = self.out(attended.transpose(-3, -2).flatten(-2))
        return merged

    def _split(self, x: Tensor) -> Tensor:
        """Turn (..., positions, hidden_dim) into (..., heads, positions, head_dim)."""
        return x.reshape(*x.shape[:-1], self.heads, self.head_dim).transpose(-3, -2)
