"""An embedding whose gate is normalized before it opens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.modality_gate import bound_width, modality_projection
from edgekit.models.shape_checks import require_features, require_modality, require_positive


class ModalEmbeddingLayer(nn.Module):
    """``Linear(x) * sigmoid(LayerNorm(Linear(mod_type)))``: gates that stay spread whatever the modality's scale.

    The gate maps the modality's features, however many, to ``hidden_dim``, and LayerNorm acts on that width. As the
    founding article printed this class, its usage line crashed: a vector of two met a layer of width ``hidden_dim``.
    The call is the article's:

    >>> ModalEmbeddingLayer(input_dim=128, hidden_dim=256)(torch.randn(64, 128), torch.tensor([0.3, 0.7])).shape
    torch.Size([64, 256])

    Args:
        input_dim: Width of the input.
        hidden_dim: Width of the output.
        modality_dim: Number of features that describe the modality. None binds it at the first call; until then the
            gate has no weights, so give it (or make one call) before counting, saving or loading parameters.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is less than one.
    """

    def __init__(self, input_dim: int, hidden_dim: int, modality_dim: int | None = None) -> None:
        super().__init__()
        require_positive("ModalEmbeddingLayer", input_dim=input_dim, hidden_dim=hidden_dim)
        if modality_dim is not None:
            require_positive("ModalEmbeddingLayer", modality_dim=modality_dim)
        self.input_dim = input_dim
        self.embed = nn.Linear(input_dim, hidden_dim)
        self.gate = modality_projection(modality_dim, hidden_dim)
        self.gate_norm = nn.LayerNorm(hidden_dim)

    def forward(self, x: Tensor, mod_type: Tensor) -> Tensor:
        """Embed the input and gate it.

        Args:
            x: (..., input_dim).
            mod_type: (modality_dim,) for all of x; or (..., modality_dim) with as many axes as x, the leading ones 1
                or those of x.

        Returns:
            (..., hidden_dim).
        """
        require_features("ModalEmbeddingLayer", "x", x, self.input_dim, axes="(..., input_dim)")
        require_modality("ModalEmbeddingLayer", mod_type, bound_width(self.gate), x)
        gated: Tensor = self.embed(x) * torch.sigmoid(self.gate_norm(self.gate(mod_type)))
        return gated
