"""Small modules that training-time compression is tried on."""

import numpy as np
import torch
from torch import nn


class Chain(nn.Module):
    """Two convolutions, pooling, dropout and a head: ``(batch, 3, 12, 12)`` to ``(batch, 5)``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.pool, self.dropout, self.head = nn.MaxPool2d(2), nn.Dropout(0.5), nn.Linear(16 * 36, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.first(image).relu_())
        return self.head(self.dropout(self.second(x).clamp(0, 6).flatten(1)))


class Block(nn.Module):
    """An inverted residual: widen, filter each channel, narrow, add."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Sequential(nn.Conv2d(channels, 32, 1, bias=False), nn.BatchNorm2d(32), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(32, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project(self.depthwise(self.widen(x)))


class Residual(nn.Module):
    """A stem, one inverted residual, pooling and a head: ``(batch, 3, 12, 12)`` to ``(batch, 5)``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.block = Block(16)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.block(self.stem(image))).flatten(1))


class Transformer(nn.Module):
    """One attention block with an MLP: ``(batch, time, 32)`` to the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(32), nn.LayerNorm(32)
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm(x)
        query, key, value = (part(normed).unflatten(-1, (4, 8)).transpose(1, 2) for part in (self.query, self.key, self.value))
        attended = (query @ key.transpose(2, 3) / 8**0.5).softmax(-1) @ value
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.mlp_norm(x))


def image(batch: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).standard_normal((batch, 3, 12, 12)).astype(np.float32)}


def sequence(batch: int = 2, time: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((batch, time, 32)).astype(np.float32)}
