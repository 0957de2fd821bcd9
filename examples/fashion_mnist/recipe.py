"""Fashion-MNIST on SoraImage: the recipe that ``edgekit deploy examples/fashion_mnist/recipe.py`` reads.

Everything it needs lies in this folder: the weights that ``train.py`` wrote, and the images that ``prepare_data.py``
wrote. torch is imported only where the model is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

HERE = Path(__file__).resolve().parent
PIXEL_MEAN = 0.2860
"""Mean of the training pixels, where 1 is white."""
PIXEL_STD = 0.3530
"""Standard deviation of the training pixels."""


def normalize(images: np.ndarray) -> np.ndarray:
    """Turn stored images into the network's input; training, calibration and evaluation all go through here.

    Args:
        images: (count, 28, 28), uint8.

    Returns:
        (count, 1, 28, 28), float32.
    """
    scaled = images[:, None].astype(np.float32) / np.float32(255)
    return (scaled - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)


def build() -> nn.Module:
    """Build SoraImage with the trained weights, in eval mode."""
    from safetensors.torch import load_file

    from edgekit.models import SoraImage

    model = SoraImage()
    model.load_state_dict(load_file(HERE / "sora_image.safetensors"))
    return model.eval()


def example() -> dict[str, np.ndarray]:
    """Return the first calibration image, batch 1: a real input for the trace."""
    return {"image": normalize(_calibration_images()[:1])}


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """Yield 512 training images that training never saw, one at a time."""
    for image in _calibration_images():
        yield {"image": normalize(image[None])}


class StoredImages(Sequence[tuple[dict[str, np.ndarray], int]]):
    """Labelled images as (feed, label) pairs; each is normalized when it is asked for.

    Args:
        images: (count, 28, 28), uint8.
        labels: (count,), uint8.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        """Return the pair at an index, or for a slice another sequence of pairs."""
        if isinstance(index, slice):
            return StoredImages(self.images[index], self.labels[index])
        return {"image": normalize(self.images[index][None])}, int(self.labels[index])


def evaluation() -> StoredImages:
    """Return the 10 000 test images with their classes, in the published order."""
    with np.load(HERE / "test.npz", allow_pickle=False) as stored:
        return StoredImages(stored["images"], stored["labels"])


def predict(run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], feed: dict[str, np.ndarray]) -> int:
    """Return the class with the highest logit."""
    return int(run(feed)["logits"].argmax())


def accuracy(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Return the share of predictions that are right."""
    return float(np.mean(np.asarray(predictions) == np.asarray(labels)))


@cache
def _calibration_images() -> np.ndarray:
    """Read (512, 28, 28) uint8."""
    with np.load(HERE / "calibration.npz", allow_pickle=False) as stored:
        images: np.ndarray = stored["images"]
        return images


recipe = Recipe(
    name="fashion",
    model=build,
    example=example,
    dynamic={"image": {0: "batch"}},
    outputs=["logits"],
    calibration=calibration,
    evaluation=evaluation,
    predict=predict,
    metric=accuracy,
)
