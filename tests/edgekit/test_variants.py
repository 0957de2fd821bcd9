"""Variants of a recipe's module: candidates as they are, judged against the module itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import edgekit
from edgekit import Recipe
from edgekit_runtime import load
from edgekit_runtime.errors import RecipeError

pytestmark = pytest.mark.usefixtures("one_torch_thread")
TARGET = """
description = "no candidates of its own"
architecture = "any"
measured = "real"
"""


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, count)
    pixels = draw.normal(0, 0.4, (count, 1, 8, 8)).astype(np.float32)
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    return pixels, labels


class Quadrants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.act, self.two = nn.Conv2d(1, 8, 3, padding=1), nn.Hardswish(), nn.Conv2d(8, 16, 3, padding=1)
        self.hidden, self.head = nn.Linear(16 * 4, 512), nn.Linear(512, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.act(self.two(self.act(self.one(image))))
        logits: torch.Tensor = self.head(torch.relu(self.hidden(nn.functional.avg_pool2d(x, 4).flatten(1))))
        return logits


@pytest.fixture(scope="module")
def trained() -> Quadrants:
    module = Quadrants()
    pixels, labels = (torch.from_numpy(array) for array in images(256, 0))
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(pixels), labels).backward()
        optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def recipe(trained: Quadrants) -> Recipe:
    return Recipe(
        name="quadrants",
        model=lambda: trained,
        example=lambda: {"image": images(1, 1)[0]},
        dynamic={"image": {0: "batch"}},
        outputs=["logits"],
        calibration=lambda: [{"image": image[None]} for image in images(32, 2)[0]],
        evaluation=lambda: [({"image": image[None]}, int(label)) for image, label in zip(*images(200, 3), strict=True)],
        predict=lambda run, feed: int(run(feed)["logits"].argmax()),
        metric=lambda predictions, labels: float(np.mean(np.asarray(predictions) == np.asarray(labels))),
    )


def test_a_fake_quantized_module_and_others_are_candidates(recipe: Recipe, trained: Quadrants, tmp_path, quick: None) -> None:
    (tmp_path / "bare.toml").write_text(TARGET)
    quantized = edgekit.qat(trained, recipe, flavour="u8s7")
    given = replace(
        recipe,
        variants={
            "qat": quantized.frozen,
            "float-again": lambda: trained,
            "worse": lambda: Quadrants().eval(),
            "broken": nn.Module,
        },
    )
    deployment = edgekit.deploy(
        given, target=str(tmp_path / "bare.toml"), max_drop=0.02, out=tmp_path / "out.edge", optimize="size"
    )
    found = {one.name: one for one in deployment.candidates}
    assert set(found) >= {"float32", "qat", "float-again", "worse", "broken"}
    assert found["qat"].kind == "int8"
    assert found["qat"].measurement.metric_drop <= 0.02
    assert found["qat"].measurement.size_bytes < deployment.baseline.size_bytes
    assert deployment.verdict == "int8"
    assert deployment.chosen.name == "qat"
    assert found["float-again"].measurement.max_abs_diff < 1e-4
    assert found["worse"].status in ("rejected", "beaten")  # as large as float, it need not be evaluated
    assert found["broken"].status == "failed"
    feed = {"image": images(1, 5)[0]}
    assert load(tmp_path / "out.edge")(feed)["logits"].shape == (1, 4)


@pytest.mark.parametrize("variants", [{"static-mine": Quadrants}, {"Upper": Quadrants}, {"qat": 3}, ["qat"]])
def test_a_variant_needs_a_name_of_its_own_and_a_function(recipe: Recipe, variants: object) -> None:
    with pytest.raises(RecipeError, match="variants"):
        replace(recipe, variants=variants)
