"""An embedding whose features are opened and closed by the modality that they come from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.modality_gate import bound_width, modality_projection
from edgekit.models.shape_checks import require_features, require_modality, require_positive


class AdaptiveEmbedding(nn.Module):
    """``Linear(x) * sigmoid(Linear(mod_type))``: one gate in (0, 1) for each hidden feature.

    The gate maps the modality's features, however many, to ``hidden_dim``. As the founding article printed this class,
    its usage line crashed: the gate's layer was as wide as the hidden features, and a vector of three met it. The call
    is the article's:

    >>> mod_type = torch.tensor([0.1, 0.5, 0.9])
    >>> AdaptiveEmbedding(input_dim=128, hidden_dim=256)(torch.randn(64, 128), mod_type).shape
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
        require_positive("AdaptiveEmbedding", input_dim=input_dim, hidden_dim=hidden_dim)
        if modality_dim is not None:
            require_positive("AdaptiveEmbedding", modality_dim=modality_dim)
        self.input_dim = input_dim
        self.embed = nn.Linear(input_dim, hidden_dim)
        self.gate = modality_projection(modality_dim, hidden_dim)

    def forward(self, x: Tensor, mod_type: Tensor) -> Tensor:
        """Embed the input and gate it.

        Args:
            x: (..., input_dim).
            mod_type: (modality_dim,) for all of x; or (..., modality_dim) with as many axes as x, the leading ones 1
                or those of x.

        Returns:
            (..., hidden_dim).
        """
        require_features("AdaptiveEmbedding", "x", x, self.input_dim, axes="(..., input_dim)")
        require_modality("AdaptiveEmbedding", mod_type, bound_width(self.gate), x)
        gated: Tensor = self.embed(x) * torch.sigmoid(self.gate(mod_type))
        return gated
