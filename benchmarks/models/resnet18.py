"""ResNet-18 at 224² with random weights: dense 3×3 convolutions, on which int8 has the most to win.

The architecture is that of He et al., *Deep Residual Learning for Image Recognition* (arXiv:1512.03385), table 1. Weights are
seeded; see ``random_weights.py`` for their statistics. There is no evaluation: random weights classify nothing.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from benchmarks.models.random_weights import draw_convolutions, images
from edgekit import Recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build", "recipe"]

CLASSES = 1000
STEM_CHANNELS = 64
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Table 1 of the paper: channels of each stage's two blocks, and the stride of the first of them."""


def build(seed: int = 0) -> "nn.Module":
    """The network: image (batch, 3, 224, 224) → logits (batch, 1000), in eval mode."""
    import torch
    from torch import nn

    def convolution(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)]

    class Block(nn.Module):
        """Two convolutions and a way round them, which has a convolution of its own where shapes differ."""

        def __init__(self, channels: int, out: int, stride: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(*convolution(channels, out, 3, stride), nn.ReLU(), *convolution(out, out, 3))
            same = stride == 1 and channels == out
            self.around = nn.Identity() if same else nn.Sequential(*convolution(channels, out, 1, stride))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(batch, channels, height, width) → (batch, out, height / stride, width / stride)."""
            return torch.relu(self.layers(x) + self.around(x))

    class ResNet18(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [*convolution(3, STEM_CHANNELS, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
            channels = STEM_CHANNELS
            for out, stride in STAGES:
                layers += [Block(channels, out, stride), Block(out, out, 1)]
                channels = out
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Linear(channels, CLASSES)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """Image (batch, 3, 224, 224), about −1 to 1 → logits (batch, 1000)."""
            logits: torch.Tensor = self.classifier(self.features(image).mean((2, 3)))
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw_convolutions(ResNet18())


def example() -> dict[str, np.ndarray]:
    """The first calibration image."""
    return next(images())


recipe = Recipe(
    name="resnet18",
    model=build,
    example=example,
    dynamic={"image": {0: "batch"}},
    outputs=["logits"],
    calibration=images,
)
