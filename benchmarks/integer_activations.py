"""Hardswish in integers: MobileNetV2 with Hardswish at 224², int8 against float32 on the CPU provider, one thread each.

Naive is what onnxruntime's `quantize_static` writes (QDQ, unsigned activations, signed weights per channel), in the flavour that
does not saturate here. Ours computes the activations in integers; the last row leaves the first blocks in float, whose few channels
win less in integers than their activations cost, with the number of blocks found by timing and the figure timed anew afterwards.
ReLU6 costs nothing in integers, so that its row is a ceiling for any Hardswish. What it does to accuracy is told on the trained
Hardswish network that there is, the example, on its 10 000 test images.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization import quantize_static as naive_quantize_static

from benchmarks.document import Bar, at_least, at_most, publish
from benchmarks.models import mobilenet_v2
from edgekit import Recipe
from edgekit.evaluation import Evaluation
from edgekit.inspection.optimized_graph import optimize
from edgekit.progress import Quiet
from edgekit.recipe import Arrays
from edgekit.recipe_file import load_recipe
from edgekit.source import Source, source_of
from edgekit_export import FLAVOURS, StaticInt8, Statistics, calibrate, optimize_float, quantize_static
from edgekit_export.quiet import quiet
from edgekit_runtime.accuracy import difference
from edgekit_runtime.machine import machine
from edgekit_runtime.model import Model
from edgekit_runtime.session import Provider, SessionConfig, open_session
from edgekit_runtime.timing import interleave, speedup

ROOT = Path(__file__).resolve().parent.parent
LEAST_SPEEDUP = 1.3
MOST_DROP = 0.003
CALIBRATION_FEEDS = 16
SEARCH_ROUNDS, ROUNDS = 12, 60
# Convolutions of the first blocks: the stem, then two or three a block.
PREFIXES = (3, 6, 9, 12, 15, 18, 24)
PRECISE = SessionConfig(threads=1, entries={"session.x64quantprecision": "1"})
ONE_THREAD = SessionConfig(threads=1)


@dataclass(frozen=True)
class Network:
    """A recipe's graph with what calibration saw of it."""

    source: Source
    statistics: Statistics
    feeds: list[Arrays]


class Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Feeds, as onnxruntime's calibrators take them."""

    def __init__(self, feeds: Sequence[Arrays]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> "Arrays | None":
        """The next feed."""
        return next(self._feeds, None)


def network_of(recipe: Recipe) -> Network:
    """Traced, prepared and calibrated."""
    assert recipe.calibration is not None
    source = source_of(recipe, Quiet())
    feeds = list(islice(recipe.calibration(), CALIBRATION_FEEDS))
    return Network(source, calibrate(source.prepared, feeds), feeds)


def scheme_here() -> StaticInt8:
    """The fastest flavour that does not saturate on this processor."""
    return StaticInt8(FLAVOURS["u8s8" if "vnni" in machine().isa else "u8s7"], "minmax", "convnet")


def write_naive(network: Network, path: Path, folder: Path) -> None:
    """What onnxruntime's own quantizer makes of the same prepared graph."""
    given = folder / "given.onnx"
    network.source.prepared.save(given)
    with quiet():
        naive_quantize_static(
            given,
            path,
            Feeds(network.feeds),
            per_channel=True,
            reduce_range=scheme_here().flavour.reduced,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def first_nodes(network: Network, convolutions: int) -> tuple[str, ...]:
    """Names of all nodes before the convolution of that index."""
    names, seen = [], 0
    for node in network.source.prepared.model.graph:
        seen += node.op_type == "Conv"
        if seen > convolutions:
            break
        names.append(str(node.name))
    return tuple(names)


def opened(path: Path, config: SessionConfig = ONE_THREAD) -> Model:
    """A model file, open."""
    return Model(open_session(path, Provider(), config), path)


def timed(paths: dict[str, Path], feed: Arrays, rounds: int, seed: int) -> dict[str, tuple[float, float, tuple[float, float]]]:
    """Milliseconds, speed-up over ``float32`` and its interval, by name."""
    models = {name: opened(path) for name, path in paths.items()}
    timings = interleave({name: (lambda model=model: model(feed)) for name, model in models.items()}, rounds=rounds, seed=seed)
    ratios = {name: speedup(timings["float32"], own) for name, own in timings.items()}
    return {name: (timings[name].median_ms, ratio.value, ratio.interval) for name, ratio in ratios.items()}


def hardswish_rows(folder: Path) -> list[dict[str, Any]]:
    """MobileNetV2 with Hardswish: float, naive, ours, ours with the first blocks in float."""
    network = network_of(mobilenet_v2.hardswish)
    graph, histograms, scheme = network.source.prepared, network.statistics.histograms, scheme_here()
    paths = {name: folder / f"{name}.onnx" for name in ("float32", "naive", "ours")}
    optimize_float(graph).save(paths["float32"])
    write_naive(network, paths["naive"], folder)
    quantize_static(graph, scheme, histograms).graph.save(paths["ours"])
    placed = {}
    for convolutions in PREFIXES:
        placed[convolutions] = folder / f"first-{convolutions}.onnx"
        sparing = replace(scheme, spared=first_nodes(network, convolutions))
        quantize_static(graph, sparing, histograms).graph.save(placed[convolutions])
    feed = network.source.example
    search = {"float32": paths["float32"], **{str(count): path for count, path in placed.items()}}
    found = timed(search, feed, SEARCH_ROUNDS, seed=1)
    best = min(placed, key=lambda count: found[str(count)][0])
    paths["ours, placed"] = placed[best]
    labels = {"ours, placed": f"ours, the first {best} convolutions in float"}
    return rows_of("MobileNetV2 Hardswish", paths, network, labels)


def relu6_rows(folder: Path) -> list[dict[str, Any]]:
    """MobileNetV2 with ReLU6, for comparison."""
    network = network_of(mobilenet_v2.relu6)
    paths = {"float32": folder / "relu-float32.onnx", "ours": folder / "relu-ours.onnx"}
    optimize_float(network.source.prepared).save(paths["float32"])
    quantize_static(network.source.prepared, scheme_here(), network.statistics.histograms).graph.save(paths["ours"])
    return rows_of("MobileNetV2 ReLU6", paths, network, {})


def example_rows(folder: Path) -> list[dict[str, Any]]:
    """The trained example: what integer activations cost in accuracy, and what they win there."""
    recipe = load_recipe(ROOT / "examples/fashion_mnist/recipe.py")
    network = network_of(recipe)
    paths = {name: folder / f"example-{name}.onnx" for name in ("float32", "naive", "ours")}
    optimize_float(network.source.prepared).save(paths["float32"])
    statistics = calibrate(network.source.prepared, recipe.calibration()) if recipe.calibration else network.statistics
    write_naive(network, paths["naive"], folder)
    quantize_static(network.source.prepared, scheme_here(), statistics.histograms).graph.save(paths["ours"])
    rows = rows_of("SoraImage (the example)", paths, network, {})
    evaluation = Evaluation(recipe)
    reference = evaluation.reference(evaluation.predict(opened(paths["float32"])))
    for row, name in zip(rows, paths, strict=True):
        drop, interval = evaluation.drop(reference, evaluation.predict(opened(paths[name])))
        row |= {"metric_drop": drop, "metric_drop_ci": interval}
    return rows


def rows_of(title: str, paths: dict[str, Path], network: Network, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Times, drift and what is left in float of each file."""
    times = timed(paths, network.source.example, ROUNDS, seed=2)
    wanted = [opened(paths["float32"])(feed) for feed in network.feeds]
    rows = []
    for name, path in paths.items():
        operators = optimize(path, Provider(), ONE_THREAD).operators
        latency, ratio, interval = times[name]
        outputs = [opened(path, PRECISE)(feed) for feed in network.feeds]
        rows.append(
            {
                "network": title,
                "model": labels.get(name, name),
                "latency_ms": latency,
                "speedup": ratio,
                "speedup_ci": interval,
                "sqnr_db": difference(outputs, wanted).sqnr_db,
                "quantize_nodes": operators.get("QuantizeLinear", 0) + operators.get("DequantizeLinear", 0),
                "float_activations": sum(operators.get(name, 0) for name in ("HardSwish", "HardSigmoid")),
            }
        )
    return rows


def main() -> None:
    """Measures and publishes."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        hardswish, relu6, example = hardswish_rows(folder), relu6_rows(folder), example_rows(folder)
    bars: list[Bar] = [
        at_least(f"Hardswish network, int8 over float32 ({hardswish[-1]['model']})", hardswish[-1]["speedup"], LEAST_SPEEDUP),
        at_most("the example: accuracy that integer activations cost", example[-1]["metric_drop"], MOST_DROP),
    ]
    publish("integer_activations", [*hardswish, *relu6, *example], bars)


if __name__ == "__main__":
    main()
