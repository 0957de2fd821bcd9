"""Fashion-MNIST as it was published, four gzipped IDX files, and how this example splits it."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HELD_OUT = 5_000
"""How many of the 60 000 training images training never sees: they choose settings and calibrate int8."""

SPLIT_SEED = 20_170_825
"""Fixes which images are held out, whatever seed training runs with."""

_IMAGES_MAGIC = 2051
_LABELS_MAGIC = 2049


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes.

    Attributes:
        images: (count, 28, 28), uint8; 0 is background.
        labels: (count,), uint8, 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray


def read_training(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """Read the training files and split them.

    Args:
        folder: Where the IDX files lie.

    Returns:
        55 000 images to fit, and 5 000 held out.
    """
    published = _read(folder, "train")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(published.labels))
    held_out, fit = order[:HELD_OUT], order[HELD_OUT:]
    return (
        LabelledImages(published.images[fit], published.labels[fit]),
        LabelledImages(published.images[held_out], published.labels[held_out]),
    )


def read_test(folder: Path) -> LabelledImages:
    """Read the 10 000 test images, in their published order."""
    return _read(folder, "t10k")


def _read(folder: Path, part: str) -> LabelledImages:
    images = _read_idx(folder / f"{part}-images-idx3-ubyte.gz", _IMAGES_MAGIC)
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte.gz", _LABELS_MAGIC)
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise SystemExit(f"{folder}: {part} has images {images.shape} and labels {labels.shape}: not Fashion-MNIST")
    return LabelledImages(images, labels)


def _read_idx(path: Path, magic: int) -> np.ndarray:
    """Read one IDX file of bytes: a magic number whose last byte is the rank, the sizes, then the values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise SystemExit(
            f"{path}: no such file. Fashion-MNIST is Debian's package dataset-fashion-mnist:\n"
            "    apt-get install dataset-fashion-mnist\n"
            "puts it in /usr/share/datasets/fashion-mnist; --data names another folder."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise SystemExit(f"{path}: cannot be read as gzip: {error}") from error
    rank = magic & 0xFF
    header = np.frombuffer(content[: 4 * (1 + rank)], dtype=">u4")
    shape = tuple(int(size) for size in header[1:])
    if len(header) != 1 + rank or header[0] != magic or len(content) != header.nbytes + int(np.prod(shape)):
        raise SystemExit(f"{path}: not an IDX file of {'images' if rank == 3 else 'labels'}, or cut short")
    return np.frombuffer(content, dtype=np.uint8, offset=header.nbytes).reshape(shape)
