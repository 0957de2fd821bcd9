"""MobileNetV3-Large at 224² with random weights: Hardswish and squeeze-excite, which int8 is known to break and to slow down.

The architecture is that of Howard et al., *Searching for MobileNetV3* (arXiv:1905.02244), table 1. Weights are seeded; see
``random_weights.py`` for their statistics. There is no evaluation: random weights classify nothing.
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
STEM_CHANNELS, LAST_CHANNELS, HIDDEN = 16, 960, 1280
SQUEEZE = 4
BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
"""Table 1 of the paper: kernel, expanded channels, channels, squeeze-excite, Hardswish (else ReLU), stride."""


def build(seed: int = 0) -> "nn.Module":
    """The network: image (batch, 3, 224, 224) → logits (batch, 1000), in eval mode."""
    import torch
    from torch import nn

    def convolution(
        channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, active: type[nn.Module] | None = None
    ) -> list[nn.Module]:
        layers = [nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]
        return [*layers, active()] if active else layers

    class SqueezeExcite(nn.Module):
        """Scales each channel by what the means of all channels say."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            squeezed = (channels // SQUEEZE + 7) // 8 * 8
            self.scale = nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(channels, squeezed, 1),
                nn.ReLU(),
                nn.Conv2d(squeezed, channels, 1),
                nn.Hardsigmoid(),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(batch, channels, height, width) → the same."""
            scaled: torch.Tensor = x * self.scale(x)
            return scaled

    class Bottleneck(nn.Module):
        """Expand, filter each channel, squeeze and excite, project; the input is added where shapes allow."""

        def __init__(self, channels: int, kernel: int, wide: int, out: int, excited: bool, hard: bool, stride: int) -> None:
            super().__init__()
            active: type[nn.Module] = nn.Hardswish if hard else nn.ReLU
            expand = convolution(channels, wide, 1, active=active) if wide != channels else []
            excite = [SqueezeExcite(wide)] if excited else []
            filtered = convolution(wide, wide, kernel, stride, wide, active)
            self.layers = nn.Sequential(*expand, *filtered, *excite, *convolution(wide, out, 1))
            self.residual = stride == 1 and channels == out

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(batch, channels, height, width) → (batch, out, height / stride, width / stride)."""
            projected: torch.Tensor = self.layers(x)
            return x + projected if self.residual else projected

    class MobileNetV3(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = convolution(3, STEM_CHANNELS, 3, 2, active=nn.Hardswish)
            channels = STEM_CHANNELS
            for kernel, wide, out, excited, hard, stride in BLOCKS:
                layers.append(Bottleneck(channels, kernel, wide, out, excited, hard, stride))
                channels = out
            self.features = nn.Sequential(*layers, *convolution(channels, LAST_CHANNELS, 1, active=nn.Hardswish))
            self.classifier = nn.Sequential(nn.Linear(LAST_CHANNELS, HIDDEN), nn.Hardswish(), nn.Linear(HIDDEN, CLASSES))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """Image (batch, 3, 224, 224), about −1 to 1 → logits (batch, 1000)."""
            logits: torch.Tensor = self.classifier(self.features(image).mean((2, 3)))
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw_convolutions(MobileNetV3())


def example() -> dict[str, np.ndarray]:
    """The first calibration image."""
    return next(images())


recipe = Recipe(
    name="mobilenet-v3",
    model=build,
    example=example,
    dynamic={"image": {0: "batch"}},
    outputs=["logits"],
    calibration=images,
)
