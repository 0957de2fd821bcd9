"""What every peer builds its models from: one network as ONNX file and as exported program, and the same feeds for all.

Peers take fixed shapes, those of the recipe's example. A feed of another shape is brought to it: several examples in one are taken
apart, and longer axes are cut, shorter ones filled with zeros, which is the padding of the networks that have some.
"""

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from benchmarks.rivals.environments import BUILD, ROOT
from benchmarks.ten_networks import NETWORKS
from edgekit.calibration_data import feeds_of
from edgekit.evaluation import Recorder
from edgekit.progress import Quiet
from edgekit.recipe import Arrays, Recipe
from edgekit.recipe_file import load_recipe
from edgekit.source import source_of
from edgekit_runtime.model import Model
from edgekit_runtime.session import Provider, SessionConfig, open_session

__all__ = ["CALIBRATION", "EVALUATION", "fitted", "key_of", "read_feeds", "spread", "write_material"]

CALIBRATION, EVALUATION = 64, 8


def key_of(network: str) -> str:
    """What the material was made from: the recipe's file."""
    file = ROOT / NETWORKS[network].partition(":")[0]
    return sha256(f"{NETWORKS[network]}\n".encode() + file.read_bytes()).hexdigest()


def write_material(network: str, *, again: bool = False) -> Path:
    """Writes a network's material where it is not there yet; gives its folder.

    It holds ``model.onnx`` as edgekit traced it, ``module.pt2`` with fixed shapes, ``signature.json``, and folders of ``.npz``:
    ``calibration``, ``evaluation`` and, for the feeds of the latter, float32 outputs of onnxruntime in ``reference``.
    """
    folder = BUILD / "material" / network
    stamp = folder / "key.txt"
    if not again and stamp.exists() and stamp.read_text() == key_of(network):
        return folder
    aside = folder.with_name(f".{network}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    recipe = load_recipe(str(ROOT / NETWORKS[network]))
    source = source_of(recipe, Quiet())
    source.traced.save(aside / "model.onnx")
    _write_program(recipe, source.example, aside / "module.pt2")
    shapes = {name: array.shape for name, array in source.example.items()}
    model = Model(open_session(aside / "model.onnx", Provider(), SessionConfig(threads=1)), aside)
    calibration = spread(list(fitted(feeds_of(recipe)[0], shapes)), CALIBRATION)
    # Random weights have nothing to be evaluated on; what calibrates them then also compares their outputs, for everybody.
    evaluation = _evaluated(recipe, model, shapes) if recipe.evaluation and recipe.metric else spread(calibration, EVALUATION)
    _write_feeds(calibration, aside / "calibration")
    _write_feeds(evaluation, aside / "evaluation")
    _write_feeds([model(feed) for feed in evaluation], aside / "reference")
    names = {"inputs": list(shapes), "outputs": [spec.name for spec in model.outputs]}
    (aside / "signature.json").write_text(json.dumps(names))
    (aside / "key.txt").write_text(key_of(network))
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)
    return folder


def spread(feeds: Sequence[Arrays], count: int) -> list[Arrays]:
    """At most `count` of the feeds, evenly spread."""
    places = np.unique(np.linspace(0, len(feeds) - 1, count).round().astype(int))
    return [feeds[place] for place in places]


def fitted(feeds: Iterable[Arrays], shapes: dict[str, tuple[int, ...]]) -> Iterator[Arrays]:
    """Feeds brought to `shapes`, example by example where the shapes are of one example."""
    for feed in feeds:
        alike = all(array.shape == shapes[name] for name, array in feed.items())
        count = max(array.shape[0] for array in feed.values())
        apart = not alike and all(shape[0] == 1 for shape in shapes.values()) and count > 1
        for row in range(count) if apart else (None,):
            yield {name: _resized(array if row is None else array[row : row + 1], shapes[name]) for name, array in feed.items()}


def read_feeds(folder: Path) -> list[Arrays]:
    """The feeds, or outputs, of a folder, in order."""
    feeds = []
    for file in sorted(folder.glob("*.npz")):
        with np.load(file, allow_pickle=False) as stored:
            feeds.append(dict(stored))
    return feeds


def _resized(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    kept = array[tuple(slice(0, size) for size in shape)]
    return np.pad(kept, [(0, size - have) for size, have in zip(shape, kept.shape, strict=True)])


def _evaluated(recipe: Recipe, model: Model, shapes: dict[str, tuple[int, ...]]) -> list[Arrays]:
    """One feed of each of eight examples of the evaluation: the middle one of those that its prediction takes."""
    assert recipe.evaluation is not None
    examples = recipe.evaluation()
    chosen = []
    for place in np.unique(np.linspace(0, len(examples) - 1, EVALUATION).round().astype(int)):
        recorder = Recorder(model, 1000)
        recipe.predict(recorder, examples[int(place)][0])
        chosen.append(recorder.feeds[len(recorder.feeds) // 2])
    return list(fitted(chosen, shapes))


def _write_program(recipe: Recipe, example: Arrays, path: Path) -> None:
    """The module as ``torch.export`` saves it, for the peers that start from PyTorch."""
    import torch

    assert not isinstance(recipe.model, Path)
    arguments = tuple(torch.from_numpy(array) for array in example.values())
    with torch.no_grad(), contextlib.redirect_stdout(None):
        torch.export.save(torch.export.export(recipe.model(), arguments), path)


def _write_feeds(feeds: Iterable[Arrays], folder: Path) -> None:
    folder.mkdir()
    for index, feed in enumerate(feeds):
        np.savez(folder / f"{index:03}.npz", **feed)  # type: ignore[arg-type]
