"""The text recogniser of RapidOCR (PP-OCRv4): a trained network that reads a line of printed text, as an ONNX file.

The file comes from PyPI (``rapidocr-onnxruntime``, Apache-2.0). It is of opset 12, holds its weights in Constant nodes and not in
initializers, has Hardswish written out, squeeze-excite, and a little transformer at its end: what one gets when others export.

**Evaluation** reads 300 rendered lines (``text_lines.py``), about 24 characters each; the metric is one less the character error
rate: edits to the true text over its length, over all lines. **Calibration** takes 64 lines of other news, of every width.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from benchmarks.models.package_data import package_folder
from benchmarks.models.text_lines import lines_of_text
from edgekit import Recipe

__all__ = ["recipe"]

EVALUATION_LINES, EVALUATION_SEED = 300, 1
CALIBRATION_LINES, CALIBRATION_SEED = 64, 2
BLANK = 0
"""Class of "no character", which the network puts between equal ones (connectionist temporal classification)."""


def model_file() -> Path:
    """The package's ONNX file: x (batch, 3, 48, width) → probabilities (batch, places, 6625)."""
    return package_folder("rapidocr_onnxruntime") / "models" / "ch_PP-OCRv4_rec_infer.onnx"


@cache
def characters() -> tuple[str, ...]:
    """The character of each class, which the file carries in its metadata; first the blank, last the space."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(model_file()).metadata_props}
    return ("", *metadata["character"].split("\n"), " ")


def normalize(picture: np.ndarray) -> np.ndarray:
    """A grey picture (48, width), uint8 → x (1, 3, 48, width), float32, -1 to 1."""
    scaled = picture.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    return np.repeat(scaled[None, None], 3, axis=1)


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """64 feeds: x (1, 3, 48, width)."""
    for picture, _ in lines_of_text("calibration", CALIBRATION_LINES, CALIBRATION_SEED):
        yield {"x": normalize(picture)}


def evaluation() -> Sequence[tuple[np.ndarray, str]]:
    """300 pictures (48, width), uint8, with their texts."""
    return lines_of_text("evaluation", EVALUATION_LINES, EVALUATION_SEED)


def example() -> dict[str, np.ndarray]:
    """One line of the calibration: x (1, 3, 48, width)."""
    return next(calibration())


def predict(run: Any, picture: np.ndarray) -> str:
    """A picture → its text: the likeliest class at each place, repeats joined, blanks left out, ends stripped."""
    (probabilities,) = run({"x": normalize(picture)}).values()
    classes = np.argmax(probabilities[0], axis=1)
    starts = np.append(True, classes[1:] != classes[:-1]) & (classes != BLANK)
    return "".join(characters()[index] for index in classes[starts]).strip()


@cache
def edits(text: str, wanted: str) -> int:
    """Fewest insertions, deletions and substitutions from one text to another (Levenshtein, 1966)."""
    costs = list(range(len(wanted) + 1))
    for row, character in enumerate(text, start=1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(wanted, start=1):
            diagonal, costs[column] = costs[column], min(costs[column] + 1, costs[column - 1] + 1, diagonal + (character != other))
    return costs[-1]


def characters_right(predictions: Sequence[str], labels: Sequence[str]) -> float:
    """One less the character error rate; negative where there are more edits than characters."""
    wrong = sum(edits(text, wanted) for text, wanted in zip(predictions, labels, strict=True))
    return 1.0 - wrong / sum(len(wanted) for wanted in labels)


recipe = Recipe(
    name="rapidocr-recognizer",
    model=model_file(),
    example=example,
    calibration=calibration,
    evaluation=evaluation,
    predict=predict,
    metric=characters_right,
)
