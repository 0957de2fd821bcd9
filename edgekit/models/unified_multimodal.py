"""The founding model: embed what came according to its modality, then let the positions attend to each other."""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.adaptive_embedding import AdaptiveEmbedding
from edgekit.models.dynamic_attention import DynamicAttention
from edgekit.models.shape_checks import require_features, require_positive


class UnifiedMultimodalModel(nn.Module):
    """Adaptive embedding, then dynamic attention, for one modality that is fixed when the model is built.

    As the founding article printed this class, its usage line crashed inside the embedding: a modality vector of
    three met a gate of width ``hidden_dim``. Here the gate maps however many features there are. The call is the
    article's:

    >>> import torch
    >>> mod_type = torch.tensor([0.1, 0.5, 0.9])
    >>> UnifiedMultimodalModel(hidden_dim=128, mod_type=mod_type)(torch.randn(64, 128)).shape
    torch.Size([64, 128])

    Args:
        hidden_dim: Width of the embedding, of the attention and of the output.
        mod_type: The modality's features, (modality_dim,); or (..., modality_dim) with as many axes as x, the leading
            ones 1 or those of x. Copied into a buffer: it moves, saves and loads with the weights, and is not trained.
        input_dim: Width of the input; None means ``hidden_dim``.

    Raises:
        TypeError: A size is not an integer, or ``mod_type`` not a floating-point tensor.
        ValueError: A size is less than one, or ``mod_type`` has no features.
    """

    mod_type: Tensor

    def __init__(self, hidden_dim: int, mod_type: Tensor, input_dim: int | None = None) -> None:
        super().__init__()
        input_dim = hidden_dim if input_dim is None else input_dim
        require_positive("UnifiedMultimodalModel", hidden_dim=hidden_dim, input_dim=input_dim)
        require_features("UnifiedMultimodalModel", "mod_type", mod_type, None, axes="(modality_dim,) or (..., modality_dim)")
        self.input_dim = input_dim
        self.register_buffer("mod_type", mod_type.detach().clone())
        self.embedding = AdaptiveEmbedding(input_dim, hidden_dim, modality_dim=mod_type.shape[-1])
        self.attention = DynamicAttention(hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the positions and let every one attend to every other.

        Args:
            x: (..., positions, input_dim).

        Returns:
            (..., positions, hidden_dim).
        """
        require_features("UnifiedMultimodalModel", "x", x, self.input_dim, axes="(..., positions, input_dim)", rank=2)
        attended: Tensor = self.attention(self.embedding(x, self.mod_type))
        return attended
