"""A tiny vision transformer at 224² with random weights: 196 patches and a class token, twelve layers of width 192.

The architecture is ViT of Dosovitskiy et al. (arXiv:2010.11929) in the size "tiny" of Touvron et al., *Training data-efficient
image transformers* (arXiv:2012.12877). Weights are seeded and larger than at the start of training, so that every layer changes
what passes through it. There is no evaluation: random weights classify nothing.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from benchmarks.models.random_weights import images
from edgekit import Recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build", "recipe"]

SIDE, PATCH = 224, 16
WIDTH, HEADS, DEPTH, EXPANSION = 192, 3, 12, 4
CLASSES = 1000


def build(seed: int = 0) -> "nn.Module":
    """The network: image (batch, 3, 224, 224) → logits (batch, 1000), in eval mode."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        """Multi-head self-attention."""

        def __init__(self) -> None:
            super().__init__()
            self.mix_in = nn.Linear(WIDTH, 3 * WIDTH)
            self.mix_out = nn.Linear(WIDTH, WIDTH)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            """(batch, tokens, 192) → the same."""
            heads = self.mix_in(tokens).reshape(-1, tokens.shape[1], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            found = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
            mixed: torch.Tensor = self.mix_out(found.transpose(1, 2).reshape(-1, tokens.shape[1], WIDTH))
            return mixed

    class Layer(nn.Module):
        """Attention and a two-layer network, each behind a LayerNorm and beside a residual."""

        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.Sequential(nn.LayerNorm(WIDTH), Attention())
            wide = EXPANSION * WIDTH
            self.feed_forward = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, wide), nn.GELU(), nn.Linear(wide, WIDTH))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            """(batch, tokens, 192) → the same."""
            tokens = tokens + self.attention(tokens)
            fed: torch.Tensor = tokens + self.feed_forward(tokens)
            return fed

    class TinyViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
            self.class_token = nn.Parameter(torch.randn(1, 1, WIDTH))
            self.positions = nn.Parameter(0.5 * torch.randn(1, (SIDE // PATCH) ** 2 + 1, WIDTH))
            self.layers = nn.Sequential(*(Layer() for _ in range(DEPTH)), nn.LayerNorm(WIDTH))
            self.classifier = nn.Linear(WIDTH, CLASSES)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """Image (batch, 3, 224, 224), about −1 to 1 → logits (batch, 1000)."""
            patches = self.patches(image).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], 1) + self.positions
            logits: torch.Tensor = self.classifier(self.layers(tokens)[:, 0])
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TinyViT()
        for part in network.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_normal_(part.weight)
                nn.init.normal_(part.bias, std=0.1)
            elif isinstance(part, nn.LayerNorm):
                # Channels of trained networks differ in spread and offset.
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, std=0.2)
    return network.eval()


def example() -> dict[str, np.ndarray]:
    """The first calibration image."""
    return next(images())


recipe = Recipe(
    name="tiny-vit",
    model=build,
    example=example,
    dynamic={"image": {0: "batch"}},
    outputs=["logits"],
    calibration=images,
)
