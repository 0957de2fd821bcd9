"""MobileNetV2 1.0 at 224² with random weights, with ReLU6 or with Hardswish: for figures of time, memory and drift.

The architecture is that of Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks* (arXiv:1801.04381), table 2;
with Hardswish (Howard et al., *Searching for MobileNetV3*, arXiv:1905.02244) it stands for the networks whose activations int8
slows down. Weights are seeded; see ``random_weights.py`` for their statistics. There is no evaluation: random weights classify
nothing.

Two recipes: ``mobilenet_v2.py:relu6`` and ``mobilenet_v2.py:hardswish``.
"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from benchmarks.models.random_weights import draw_convolutions, images
from edgekit import Recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build", "hardswish", "relu6"]

CLASSES = 1000
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of the paper: expansion, channels, how many blocks, stride of the first of them."""

Activation = Literal["relu6", "hardswish"]


def build(activation: Activation, seed: int = 0) -> "nn.Module":
    """The network: image (batch, 3, 224, 224) → logits (batch, 1000), in eval mode."""
    import torch
    from torch import nn

    active = {"relu6": nn.ReLU6, "hardswish": nn.Hardswish}[activation]

    def convolution(
        channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, *, linear: bool = False
    ) -> list[nn.Module]:
        layers = [nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]
        return layers if linear else [*layers, active()]

    class Bottleneck(nn.Module):
        """Expand, filter each channel, project; the input is added where shapes allow."""

        def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
            super().__init__()
            wide = channels * expansion
            expand = convolution(channels, wide, 1) if expansion > 1 else []
            self.layers = nn.Sequential(
                *expand, *convolution(wide, wide, 3, stride, groups=wide), *convolution(wide, out, 1, linear=True)
            )
            self.residual = stride == 1 and channels == out

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(batch, channels, height, width) → (batch, out, height / stride, width / stride)."""
            projected: torch.Tensor = self.layers(x)
            return x + projected if self.residual else projected

    class MobileNetV2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = convolution(3, STEM_CHANNELS, 3, 2)
            channels = STEM_CHANNELS
            for expansion, out, count, stride in BLOCKS:
                for index in range(count):
                    layers.append(Bottleneck(channels, out, expansion, stride if index == 0 else 1))
                    channels = out
            self.features = nn.Sequential(*layers, *convolution(channels, HEAD_CHANNELS, 1))
            self.classifier = nn.Linear(HEAD_CHANNELS, CLASSES)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """Image (batch, 3, 224, 224), about −1 to 1 → logits (batch, 1000)."""
            logits: torch.Tensor = self.classifier(self.features(image).mean((2, 3)))
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw_convolutions(MobileNetV2())


def example() -> dict[str, np.ndarray]:
    """The first image that it is calibrated on."""
    return next(images())


def _recipe(activation: Activation) -> Recipe:
    return Recipe(
        name=f"mobilenet-v2-{activation}",
        model=partial(build, activation),
        example=example,
        dynamic={"image": {0: "batch"}},
        outputs=["logits"],
        calibration=images,
    )


relu6 = _recipe("relu6")
hardswish = _recipe("hardswish")
