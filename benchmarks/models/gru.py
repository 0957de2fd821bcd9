"""Two GRU layers over a second of sound with random weights: as in a keyword spotter, 100 frames of 40 features.

Weights are seeded: those of the inputs by Glorot and Bengio's rule, those of the state orthogonal, as recurrent networks are begun
with in practice. There is no evaluation: random weights hear nothing.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from edgekit import Recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build", "recipe"]

FRAMES, FEATURES = 100, 40
HIDDEN, LAYERS, CLASSES = 256, 2, 12
CALIBRATION_SOUNDS = 64
KEPT_OF_A_FRAME = 0.8
"""How much of a frame is still in the next one: neighbouring frames of speech are alike."""


def build(seed: int = 0) -> "nn.Module":
    """The network: frames (batch, 100, 40) → logits (batch, 100, 12), in eval mode."""
    import torch
    from torch import nn

    class FrameClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.GRU(FEATURES, HIDDEN, LAYERS, batch_first=True)
            self.classifier = nn.Linear(HIDDEN, CLASSES)

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            """Frames (batch, 100, 40) → logits (batch, 100, 12)."""
            states, _ = self.recurrent(frames)
            logits: torch.Tensor = self.classifier(states)
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FrameClassifier()
        for name, weight in network.recurrent.named_parameters():
            for gate in weight.chunk(3):
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                elif name.startswith("weight_ih"):
                    nn.init.xavier_normal_(gate)
                else:
                    nn.init.normal_(gate, std=0.1)
    return network.eval()


def sound(index: int) -> np.ndarray:
    """Features of a synthetic sound (1, 100, 40), float32, about −2 to 2: frames and bands resemble their neighbours."""
    draw = np.random.default_rng(index).standard_normal((FRAMES, FEATURES + 2))
    banded = (draw[:, :-2] + draw[:, 1:-1] + draw[:, 2:]) / np.sqrt(3)
    frames = np.empty((FRAMES, FEATURES))
    frames[0] = banded[0]
    for place in range(1, FRAMES):
        frames[place] = KEPT_OF_A_FRAME * frames[place - 1] + np.sqrt(1 - KEPT_OF_A_FRAME**2) * banded[place]
    return frames[None].astype(np.float32)


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """64 synthetic sounds."""
    for index in range(CALIBRATION_SOUNDS):
        yield {"frames": sound(index)}


def example() -> dict[str, np.ndarray]:
    """The first of them."""
    return next(calibration())


recipe = Recipe(
    name="gru",
    model=build,
    example=example,
    dynamic={"frames": {0: "batch"}},
    outputs=["logits"],
    calibration=calibration,
)
