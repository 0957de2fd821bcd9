"""Write the images that the example carries: 512 to calibrate int8, and the whole test set.

    python examples/fashion_mnist/prepare_data.py --data /usr/share/datasets/fashion-mnist

Both files are compressed uint8 arrays without pickles. The calibration images come from the training images that
``train.py`` holds out, so neither training nor the test has seen them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from fashion_data import read_test, read_training

HERE = Path(__file__).resolve().parent
CALIBRATION_IMAGES = 512


def main() -> None:
    """Write ``calibration.npz`` and ``test.npz``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        help="folder with the four IDX files of Debian's package dataset-fashion-mnist",
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder that the two files go to")
    arguments = parser.parse_args()

    _, held_out = read_training(arguments.data)
    test = read_test(arguments.data)
    tested = {image.tobytes() for image in test.images}
    unseen = [index for index, image in enumerate(held_out.images) if image.tobytes() not in tested]
    chosen = unseen[:CALIBRATION_IMAGES]
    save(arguments.out / "calibration.npz", images=held_out.images[chosen], labels=held_out.labels[chosen])
    save(arguments.out / "test.npz", images=test.images, labels=test.labels)


def save(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays aside, compressed, then swap them in."""
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    aside.replace(path)
    print(f"{path}: {', '.join(f'{name} {array.shape}' for name, array in arrays.items())}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
