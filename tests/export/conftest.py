"""Small real networks, traced once for the whole folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit_export import Contents, Graph, Statistics, Traced, calibrate, prepare, trace
from edgekit_runtime import Measurement, Provider, SessionConfig, load
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.manifest import Chosen, InputRange

Feed = dict[str, np.ndarray]


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    """OpenMP's waiting threads spin: beside another worker two are several times slower than one for networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class ConvNet(nn.Module):
    """Convolution, batch normalization, a depthwise step and a head: ``(batch, 3, 12, 12)`` to ``(batch, 5)``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.Hardswish())
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.depthwise(self.stem(image)).mean((2, 3)))


class AttentionNet(nn.Module):
    """One masked attention block: ``(batch, time, 16)`` and a mask of ``(batch, time)`` to ``(batch, time, 16)``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.query, self.key, self.value = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.out = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        normed = self.norm(x)
        scores = self.query(normed) @ self.key(normed).transpose(1, 2) / 4.0
        scores = scores + torch.where(mask, 0.0, torch.finfo(torch.float32).min)[:, None, :]
        return x + self.out(scores.softmax(-1) @ self.value(normed))


class LstmNet(nn.Module):
    """An LSTM and a linear layer: ``(batch, time, 8)`` to ``(batch, time, 4)``, and its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, (last, _) = self.lstm(x)
        return self.head(states), last


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv_feed(batch: int = 2, seed: int = 0) -> Feed:
    return {"image": floats(batch, 3, 12, 12, seed=seed)}


def attention_feed(batch: int = 2, time: int = 6, seed: int = 0) -> Feed:
    mask = np.arange(time)[None, :] < np.arange(time, time - batch, -1)[:, None].clip(1)
    return {"x": floats(batch, time, 16, seed=seed), "mask": mask}


def lstm_feed(batch: int = 1, time: int = 7, seed: int = 0) -> Feed:
    return {"x": floats(batch, time, 8, seed=seed)}


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The module in eval mode, its weights drawn the same every time; normalizations get statistics of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = build()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 2.0)
    return module.eval()


@pytest.fixture(scope="session")
def conv() -> Traced:
    return trace(seeded(ConvNet), conv_feed(), {"image": {0: "batch"}}, ["logits"])


@pytest.fixture(scope="session")
def attention() -> Traced:
    axes = {0: "batch", 1: "time"}
    return trace(seeded(AttentionNet), attention_feed(), {"x": axes, "mask": axes}, ["states"])


@pytest.fixture(scope="session")
def lstm() -> Traced:
    """Traced with an example of batch 1."""
    return trace(seeded(LstmNet), lstm_feed(), {"x": {0: "batch", 1: "time"}}, ["states", "last"])


@pytest.fixture(scope="session")
def prepared(conv: Traced, attention: Traced, lstm: Traced) -> dict[str, Graph]:
    """The three, prepared, by name."""
    feeds = {"conv": conv_feed(), "attention": attention_feed(), "lstm": lstm_feed()}
    graphs = {"conv": conv.graph, "attention": attention.graph, "lstm": lstm.graph}
    return {name: prepare(graph, [feeds[name]]) for name, graph in graphs.items()}


@pytest.fixture(scope="session")
def feeds() -> dict[str, list[Feed]]:
    """Feeds of several sizes for each of the three."""
    return {
        "conv": [conv_feed(batch, seed=batch) for batch in (1, 4, 2)],
        "attention": [attention_feed(batch, time, seed=batch) for batch, time in ((1, 6), (3, 9), (2, 4))],
        "lstm": [lstm_feed(batch, time, seed=batch) for batch, time in ((1, 7), (3, 9), (2, 4))],
    }


@pytest.fixture(scope="session")
def statistics(prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> dict[str, Statistics]:
    return {name: calibrate(graph, feeds[name]) for name, graph in prepared.items()}


@pytest.fixture
def contents(tmp_path: Path, prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> Contents:
    """What goes into a bundle of the convolutional network; its model lies at ``built/static.onnx``."""
    (tmp_path / "built").mkdir()
    model = tmp_path / "built" / "static.onnx"
    prepared["conv"].save(model)
    outputs = [load(model)(feed) for feed in feeds["conv"]]
    figures = Measurement(size_bytes=size_bytes(model))
    return Contents(
        name="conv",
        model=model,
        inputs=prepared["conv"].inputs,
        outputs=prepared["conv"].outputs,
        target="host",
        provider=Provider(),
        session=SessionConfig(),
        preprocessing={"image": InputRange(-4.0, 4.0)},
        isa={},
        chosen=Chosen("float32", "float32", "it is the only one", False, figures),
        baseline=figures,
        tools={"edgekit": "0"},
        golden_inputs=feeds["conv"],
        golden_floats=outputs,
        golden_outputs=outputs,
        report="<!doctype html><title>report</title>",
    )
