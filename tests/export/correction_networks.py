"""Small networks that corrections are tried on, and how they are compared."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgekit_export import Graph, prepare, trace
from edgekit_runtime import load
from edgekit_runtime.accuracy import difference
from tests.export.conftest import floats, seeded

Feed = dict[str, np.ndarray]


class Cnn(nn.Module):
    """A stem, an inverted residual with its depthwise step, and a head; ``(batch, 3, 8, 8)`` to ``(batch, 6)``."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), activation())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), activation())
        self.project = nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.Conv2d(8, 12, 3, groups=4), nn.MaxPool2d(2), nn.Conv2d(12, 6, 1, bias=False))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        stem = self.stem(image)
        joined = stem + self.project(self.depthwise(self.expand(stem)))
        return self.head(joined).mean((2, 3))


class Mlp(nn.Module):
    """Three linear layers with ReLU: ``(batch, time, 8)`` to ``(batch, time, 4)``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16, bias=False), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class SpeltOutNorm(nn.Module):
    """Layer normalization in single operators, as old exports have it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(16) + 0.5), nn.Parameter(torch.randn(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight + self.bias


class Block(nn.Module):
    """A transformer block with normalization before attention and behind the gated part, and channels that stick out."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.first, self.second = (nn.LayerNorm(16), nn.LayerNorm(16)) if norm is nn.LayerNorm else (norm(), norm())
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
        self.out, self.up, self.gate, self.down = nn.Linear(16, 16), nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 16)
        with torch.no_grad():
            self.first.weight[3] *= 40.0
            self.second.weight[5] *= 25.0
            self.up.weight[7] *= 30.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.first(x)
        scores = self.query(normed) @ self.key(normed).transpose(1, 2) / 4.0
        x = x + self.out(scores.softmax(-1) @ self.value(normed))
        wide = self.second(x)
        return x + self.down(self.up(wide) * self.gate(wide).sigmoid())


def traced(module: nn.Module, name: str, *shape: int) -> Graph:
    feed = {name: floats(*shape)}
    axes = {0: "batch"} if len(shape) == 4 else {0: "batch", 1: "time"}
    return prepare(trace(module, feed, {name: axes}, ["y"]).graph, [feed])


BUILDERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu": (lambda: Cnn(nn.ReLU), (2, 3, 8, 8)),
    "relu6": (lambda: Cnn(nn.ReLU6), (2, 3, 8, 8)),
    "leaky": (lambda: Cnn(nn.LeakyReLU), (2, 3, 8, 8)),
    "mlp": (Mlp, (2, 5, 8)),
    "block": (lambda: Block(nn.LayerNorm), (2, 5, 16)),
    "spelt out": (lambda: Block(SpeltOutNorm), (2, 5, 16)),
}


@cache
def network(name: str) -> Graph:
    """One of them, prepared; traced once for all tests."""
    build, shape = BUILDERS[name]
    return traced(seeded(build), "image" if len(shape) == 4 else "x", *shape)


def feeds_of(graph: Graph) -> list[Feed]:
    """Four feeds of another size than the graph was traced with."""
    (spec,) = graph.inputs
    shape = [size if isinstance(size, int) else 3 for size in spec.shape]
    return [{spec.name: floats(*shape, seed=seed)} for seed in range(1, 5)]


def outputs(graph: Graph, feeds: list[Feed], folder: Path) -> list[Feed]:
    graph.save(folder / "model.onnx")
    model = load(folder / "model.onnx")
    return [model(feed) for feed in feeds]


def sqnr_db(graph: Graph, other: Graph, folder: Path) -> float:
    feeds = feeds_of(graph)
    return difference(outputs(other, feeds, folder), outputs(graph, feeds, folder)).sqnr_db
