"""Five planted faults: ``edgekit inspect --why`` has to rank the planted one first, and must not see it in the healthy network.

Each fault goes into a network that is otherwise healthy, and the detectors are told nothing of it:

- a bad calibration set: uniform noise in the place of images, which is what scripts do when data is not at hand;
- a blocker: Hardswish, as onnxruntime's own quantizer leaves it, in the middle of integer convolutions;
- an outlier channel: one of a ReLU's channels times 400, and the next layer's weights for it over 400, which computes the same;
- more threads than cores: four on the one core that affinity leaves;
- mismatched preprocessing: pixels from 0 to 255 where the network was calibrated on normalized ones.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from onnxruntime.quantization import QuantType
from onnxruntime.quantization import quantize_static as naive_quantize_static

from benchmarks.document import Bar, at_most, publish
from benchmarks.integer_activations import Feeds
from benchmarks.models.random_weights import photograph_like
from edgekit import Recipe
from edgekit.commands.diagnose import diagnose
from edgekit.diagnosis.findings import Diagnosis
from edgekit.progress import Quiet
from edgekit.recipe import Arrays
from edgekit.recipe_file import load_recipe
from edgekit.source import source_of
from edgekit_export import FLAVOURS, Graph, StaticInt8, calibrate, quantize_static
from edgekit_export.quiet import quiet
from edgekit_runtime.machine import available_cores

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).resolve().parent.parent
# What the same finding may account for in the healthy network: what nobody would look into.
MOST_HEALTHY = 0.05
CALIBRATION = 96
NAIVE_CALIBRATION = 24
THREADS_A_CORE = 4
OUTLIER = 400.0
WIDTHS = (32, 64, 64, 64, 64)
PIXEL_MEAN, PIXEL_STD = 0.2860, 0.3530

Activation = Literal["relu", "hardswish"]
ACTIVATIONS: tuple[Activation, ...] = ("relu", "hardswish")


@dataclass(frozen=True)
class Case:
    """A network with and without a fault.

    Attributes:
        fault: The name of the finding that tells it.
        network: What a reader calls the network.
        faulty: With it.
        healthy: Without.
    """

    fault: str
    network: str
    faulty: Diagnosis
    healthy: Diagnosis

    @property
    def rank(self) -> int | None:
        """Place of the planted fault among the findings, from 1."""
        return next((place for place, found in enumerate(self.faulty.findings, 1) if found.name == self.fault), None)

    @property
    def healthy_impact(self) -> float:
        """What the same finding accounts for without the fault."""
        return max((found.impact for found in self.healthy.findings if found.name == self.fault), default=0.0)

    def row(self) -> dict[str, Any]:
        """Figures and the finding's own words."""
        found = next((found for found in self.faulty.findings if found.name == self.fault), None)
        others = [other for other in self.faulty.findings if other.name != self.fault]
        return {
            "fault": self.fault,
            "network": self.network,
            "rank": self.rank,
            "impact": found.impact if found else None,
            "next": others[0].name if others else None,
            "next_impact": others[0].impact if others else None,
            "healthy_impact": self.healthy_impact,
            "sqnr_db": self.faulty.sqnr_db,
            "says": found.title if found else None,
        }


@dataclass(frozen=True)
class Files:
    """A recipe's network, traced once.

    Attributes:
        recipe: It.
        graph: Prepared.
        path: The float file.
    """

    recipe: Recipe
    graph: Graph
    path: Path

    @classmethod
    def of(cls, recipe: Recipe, folder: Path) -> "Files":
        """Traces and writes it."""
        graph = source_of(recipe, Quiet()).prepared
        path = folder / f"{recipe.name}-{len(list(folder.iterdir()))}.onnx"
        graph.save(path)
        return cls(recipe, graph, path)

    def feeds(self, calibration: Callable[[], Iterable[Arrays]] | None = None) -> list[Arrays]:
        """Of the recipe, or of another calibration."""
        data = calibration or self.recipe.calibration
        assert data is not None
        return list(islice(data(), CALIBRATION))

    def quantized(self, calibration: Callable[[], Iterable[Arrays]] | None = None) -> Path:
        """In edgekit's scheme for processors without VNNI, which saturates nowhere."""
        statistics = calibrate(self.graph, self.feeds(calibration))
        path = self.path.with_name(f"{self.path.stem}-int8{'-other' if calibration else ''}.onnx")
        scheme = StaticInt8(FLAVOURS["u8s7"], "minmax", "convnet")
        quantize_static(self.graph, scheme, statistics.histograms).graph.save(path)
        return path

    def naively_quantized(self) -> Path:
        """By onnxruntime's own quantizer, with 7-bit weights for the same reason."""
        path = self.path.with_name(f"{self.path.stem}-naive.onnx")
        with quiet():
            naive_quantize_static(
                self.path,
                path,
                Feeds(self.feeds()[:NAIVE_CALIBRATION]),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        return path

    def why(self, path: Path, *, recipe: Recipe | None = None, threads: int | None = None) -> Diagnosis:
        """The diagnosis of one of the files."""
        return diagnose(path, recipe=recipe or self.recipe, against=self.path, threads=threads)


def fashion_cases(folder: Path) -> Iterator[Case]:
    """The trained example: a bad calibration set, mismatched preprocessing."""
    recipe = load_recipe(ROOT / "examples/fashion_mnist/recipe.py")
    files = Files.of(recipe, folder)
    sound, misled = files.quantized(), replace(recipe, calibration=noise)
    raw = replace(recipe, evaluation=lambda: RawPixels(recipe.evaluation()))  # type: ignore[misc]
    healthy = files.why(sound)
    faulty = files.why(files.quantized(noise), recipe=misled)
    yield Case("calibration-unlike-evaluation", "the example (trained)", faulty, healthy)
    yield Case("preprocessing-mismatch", "the example (trained)", files.why(sound, recipe=raw), healthy)


def noise() -> Iterator[Arrays]:
    """Uniform between 0 and 1."""
    draw = np.random.default_rng(0)
    for _ in range(CALIBRATION):
        yield {"image": draw.random((1, 1, 28, 28), np.float32)}


class RawPixels(Sequence[Any]):
    """Labelled feeds whose normalization is undone: pixels from 0 to 255."""

    def __init__(self, examples: Sequence[Any]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        """One pair."""
        feed, label = self._examples[index]
        return {"image": ((feed["image"] * PIXEL_STD + PIXEL_MEAN) * 255).astype(np.float32)}, label


def pointwise_case(folder: Path) -> Iterator[Case]:
    """Pointwise convolutions with random weights, as most of MobileNet's are: Hardswish against ReLU."""
    plain, smooth = (Files.of(small_recipe(activation, 1), folder) for activation in ACTIVATIONS)
    healthy, faulty = (files.why(files.naively_quantized()) for files in (plain, smooth))
    yield Case("surviving-qdq", "pointwise convolutions", faulty, healthy)


def full_cases(folder: Path) -> Iterator[Case]:
    """Convolutions of 3×3 with random weights: too many threads, an outlier channel."""
    plain, stretched = (Files.of(small_recipe("relu", 3, factor), folder) for factor in (1.0, OUTLIER))
    sound = plain.naively_quantized()
    healthy = plain.why(sound)
    with one_core():
        crowded = plain.why(sound, threads=THREADS_A_CORE * available_cores())
    yield Case("more-threads-than-cores", "3×3 convolutions", crowded, healthy)
    yield Case("outlier-channels", "3×3 convolutions", stretched.why(stretched.naively_quantized()), healthy)


@contextmanager
def one_core() -> Iterator[None]:
    """Leaves this process a single core, as a container or a scheduler does, where the system lets it."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if allowed:
        os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)


def halved() -> Iterator[Arrays]:
    """Synthetic images at half their side."""
    for index in range(CALIBRATION // 2):
        yield {"image": np.ascontiguousarray(photograph_like(index)[:, :, ::2, ::2])}


def small_recipe(activation: Activation, kernel: int, factor: float = 1.0) -> Recipe:
    """The network with an activation, one of its channels stretched."""
    return Recipe(
        name=f"small-{activation}",
        model=partial(small_network, activation, kernel, factor),
        example=lambda: next(halved()),
        dynamic={"image": {0: "batch"}},
        outputs=["logits"],
        calibration=halved,
    )


def small_network(activation: Activation, kernel: int, factor: float) -> "nn.Module":
    """Image (batch, 3, 112, 112) → logits (batch, 10): convolutions with seeded weights.

    `factor` stretches one channel behind a ReLU, and the weights that read it make up for that.
    """
    import torch
    from torch import nn

    active = {"relu": nn.ReLU, "hardswish": nn.Hardswish}[activation]

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = [nn.Conv2d(3, WIDTHS[0], 3, 2, 1), active()]
            for before, after in pairwise(WIDTHS):
                layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), active()]
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Linear(WIDTHS[-1], 10)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """(batch, 3, height, width) → (batch, 10)."""
            logits: torch.Tensor = self.classifier(self.features(image).mean((2, 3)))
            return logits

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = Small()
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
        stem, reader = network.features[0], network.features[2]
        assert isinstance(stem, nn.Conv2d)
        assert isinstance(reader, nn.Conv2d)
        assert stem.bias is not None
        stem.weight[5] *= factor
        stem.bias[5] *= factor
        reader.weight[:, 5] /= factor
    return network.eval()


def main() -> None:
    """Plants, diagnoses and publishes."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        cases = [case for make in (fashion_cases, pointwise_case, full_cases) for case in make(Path(name))]
    bars: list[Bar] = []
    for case in cases:
        bars.append(at_most(f"{case.fault}: rank of the planted fault", case.rank, 1))
        bars.append(at_most(f"{case.fault}: impact in the healthy network", case.healthy_impact, MOST_HEALTHY))
    publish("diagnosis", [case.row() for case in cases], bars)


if __name__ == "__main__":
    main()
