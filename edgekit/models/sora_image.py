"""SoraImage: light convolutions that shrink the image, then dynamic attention over what is left of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.multi_head_dynamic_attention import MultiHeadDynamicAttention
from edgekit.models.shape_checks import require_features, require_positive

_SIDE = 28
_GRID = _SIDE // 4  # positions per side: the convolutions halve twice


class SoraImage(nn.Module):
    """A small image classifier for 28 x 28 grey images.

    ::

        image      (batch, 1, 28, 28)
        stem       (batch, 16, 28, 28)   3x3 convolution
        separable  (batch, 32, 14, 14)   depthwise-separable convolution, stride 2
        inverted   (batch, 32, 14, 14)   inverted residual
        inverted   (batch, 64, 7, 7)     inverted residual, stride 2
        inverted   (batch, 64, 7, 7)     inverted residual
        positions  (batch, 49, 64)       learned positional embedding added
        attention  (batch, 49, 64)       two blocks: multi-head dynamic attention, then an MLP
        logits     (batch, classes)      mean over the positions, LayerNorm, Linear

    Every convolution is followed by BatchNorm (which export folds into it) and, but for the projections, by
    Hardswish.

    >>> SoraImage().eval()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])

    Args:
        classes: Number of classes.

    Raises:
        TypeError: ``classes`` is not an integer.
        ValueError: ``classes`` is less than one.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        require_positive("SoraImage", classes=classes)
        width, heads, expansion = 64, 4, 4
        self.convolutions = nn.Sequential(
            _conv_norm(1, 16, kernel=3),
            nn.Hardswish(),
            DepthwiseSeparable(16, 32, stride=2),
            InvertedResidual(32, 32, expansion=expansion),
            InvertedResidual(32, width, expansion=expansion, stride=2),
            InvertedResidual(width, width, expansion=expansion),
        )
        self.position = nn.Parameter(torch.zeros(1, _GRID * _GRID, width))
        self.attention = nn.Sequential(*(AttentionBlock(width, heads, mlp_dim=2 * width) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, image: Tensor) -> Tensor:
        """Classify images.

        Args:
            image: (batch, 1, 28, 28), float32, normalized as in training.

        Returns:
            Logits, (batch, classes).
        """
        require_features("SoraImage", "image", image, _SIDE, axes="(batch, 1, 28, 28)", rank=4)
        if image.dim() != 4 or tuple(image.shape[1:]) != (1, _SIDE, _SIDE):
            raise ValueError(f"SoraImage: image must have shape (batch, 1, 28, 28), got {tuple(image.shape)}")
        positions = self.convolutions(image).flatten(2).transpose(1, 2)  # (batch, 49, width)
        positions = self.attention(positions + self.position)
        logits: Tensor = self.head(self.norm(positions.mean(dim=1)))
        return logits


class DepthwiseSeparable(nn.Module):
    """A 3x3 filter per channel, then a 1x1 mix of the channels, with BatchNorm and Hardswish after each.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        stride: Step of the 3x3 filter.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv_norm(in_channels, in_channels, kernel=3, stride=stride, groups=in_channels),
            nn.Hardswish(),
            _conv_norm(in_channels, out_channels, kernel=1),
            nn.Hardswish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride)."""
        mixed: Tensor = self.layers(x)
        return mixed


class InvertedResidual(nn.Module):
    """Widen with 1x1, filter each channel with 3x3, narrow with 1x1; added to the input where the shapes agree.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        expansion: How many times wider the filtered middle is than the input.
        stride: Step of the 3x3 filter.
    """

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int = 1) -> None:
        super().__init__()
        middle = in_channels * expansion
        self.adds_input = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            _conv_norm(in_channels, middle, kernel=1),
            nn.Hardswish(),
            _conv_norm(middle, middle, kernel=3, stride=stride, groups=middle),
            nn.Hardswish(),
            _conv_norm(middle, out_channels, kernel=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride)."""
        filtered: Tensor = self.layers(x)
        return x + filtered if self.adds_input else filtered


class AttentionBlock(nn.Module):
    """Multi-head dynamic attention, then an MLP; each reads a LayerNorm of its input and adds to it.

    Args:
        hidden_dim: Width of a position.
        heads: Number of attention heads.
        mlp_dim: Width of the MLP's middle.
    """

    def __init__(self, hidden_dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_dim)
        self.attention = MultiHeadDynamicAttention(hidden_dim, heads)
        self.mlp_norm = nn.LayerNorm(hidden_dim)
        self.mlp = nn.Sequential(nn.Linear(hidden_dim, mlp_dim), nn.Hardswish(), nn.Linear(mlp_dim, hidden_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, hidden_dim) to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        mixed: Tensor = x + self.mlp(self.mlp_norm(x))
        return mixed


def _conv_norm(in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Build a convolution that keeps the size (up to the stride), and its BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    )
