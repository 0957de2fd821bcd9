"""Quantization-aware training, and pruning with distillation before it, on the example (issue 3, bars 4 and 5).

Bars: the integers of the fake-quantized SoraImage lose at most 0.1 point of the float network's accuracy on the 10 000 test
images, with a step for each output channel and with one step for a whole weight, and give the class that the fake-quantized
module gives on 99.9 % of them; pruned to half of its multiply-adds, distilled and fake-quantized it loses at most one point.

``examples/fashion_mnist/compress.py`` trains, on training images alone; its checkpoints lie in ``build/``, called after what
they depend on, so that a second run only measures and a run that was stopped goes on. Training takes about ten minutes of one
core. Integers are onnxruntime's, by the kernels that it has for this machine. For latency the graphs are what deploying ships:
float with onnxruntime's optimizations, int8 with activations written in integers; one thread, batch 1, interleaved.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.document import Bar, at_least, at_most, publish
from edgekit_export import FakeQuantized, Graph, optimize_float, prepare, trace
from edgekit_export.rewrites import integer_activations
from edgekit_export.training.captured import capture
from edgekit_export.training.channel_flow import follow
from edgekit_runtime import Model, SessionConfig
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.session import open_session
from edgekit_runtime.timing import interleave, speedup

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "fashion_mnist"
MOST_LOST, MOST_LOST_PRUNED, LEAST_AGREEMENT, MOST_WORK = 0.001, 0.01, 0.999, 0.5
BATCH = 250
ROUNDS = 40


def classes(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """The class of each image, (count,)."""
    return np.concatenate([run(images[start : start + BATCH]).argmax(1) for start in range(0, len(images), BATCH)])


def by_torch(module: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Logits of a batch, by a module."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits: np.ndarray = module(torch.from_numpy(images)).numpy()
        return logits

    return run


def opened(path: Path) -> Model:
    """A model on one thread."""
    return Model(open_session(path, config=SessionConfig(threads=1)), path)


def by_onnxruntime(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Logits of a batch, by a model file."""
    model = opened(path)
    return lambda images: model({"image": images})["logits"]


def variants(arguments: argparse.Namespace, compress: Any, recipe: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    """What is measured, by name: the float network, int8 without training, and all that is trained."""
    import edgekit

    yield "float32", compress.build()
    for weights in ("per-channel", "per-tensor"):
        yield f"calibrated only, {weights}", edgekit.qat(compress.build(), recipe, weights=weights, flavour="u8s7").eval()
    for name, module in compress.networks(compress.Plan(), arguments.data, arguments.folder):
        yield (
            {
                "per-channel": "trained, per-channel",
                "per-tensor": "trained, per-tensor",
                "pruned": "pruned and distilled, float32",
                "pruned-quantized": "pruned, distilled, trained, per-channel",
            }[name],
            module,
        )


def measured(
    name: str, module: torch.nn.Module, recipe: Any, images: np.ndarray, labels: np.ndarray, folder: Path
) -> dict[str, Any]:
    """Accuracy of a variant, and its files: as exported, and as it ships."""
    example = recipe.example()
    own = classes(by_torch(module), images)
    row: dict[str, Any] = {"what": name}
    stem = name.replace(" ", "_").replace(",", "")
    exported, shipped = folder / f"{stem}.exported.onnx", folder / f"{stem}.onnx"
    if isinstance(module, FakeQuantized):
        module.export(exported)
        integer_activations(prepare(Graph.read(exported), [example])).save(shipped)
        found = classes(by_onnxruntime(exported), images)
        row |= {"accuracy": float((found == labels).mean()), "agreement": float((found == own).mean())}
        row["shipped_accuracy"] = float((classes(by_onnxruntime(shipped), images) == labels).mean())
        row["module_accuracy"] = float((own == labels).mean())
    else:
        graph = trace(module, example, recipe.dynamic, recipe.outputs).graph
        optimize_float(prepare(graph, [example])).save(shipped)
        row["accuracy"] = float((classes(by_onnxruntime(shipped), images) == labels).mean())
        row["multiply_adds"] = follow(capture(module, example, recipe.dynamic)).multiply_adds()
    row["size_bytes"] = size_bytes(shipped)
    return row | {"path": shipped}


def add_latency(rows: list[dict[str, Any]], feed: dict[str, np.ndarray]) -> None:
    """Adds latency and speed-up over the first row, in place."""
    models = {row["what"]: opened(row.pop("path")) for row in rows}
    timings = interleave({name: (lambda model=model: model(feed)) for name, model in models.items()}, rounds=ROUNDS)
    first = timings[rows[0]["what"]]
    for row in rows:
        ratio = speedup(first, timings[row["what"]])
        row |= {"latency_ms": timings[row["what"]].median_ms, "speedup": ratio.value, "speedup_ci": ratio.interval}


def bars_of(rows: list[dict[str, Any]]) -> list[Bar]:
    """What the issue asks for."""
    by_name = {row["what"]: row for row in rows}
    floating, narrow = by_name["float32"], by_name["pruned and distilled, float32"]
    bars = []
    for weights in ("per-channel", "per-tensor"):
        row = by_name[f"trained, {weights}"]
        bars += [
            at_most(f"accuracy lost by trained int8, {weights} weights", row["drop"], MOST_LOST),
            at_least(
                f"share of images on which integers and fake-quantized floats agree, {weights}", row["agreement"], LEAST_AGREEMENT
            ),
        ]
    small = by_name["pruned, distilled, trained, per-channel"]
    return [
        *bars,
        at_most("share of the multiply-adds that is left", narrow["multiply_adds"] / floating["multiply_adds"], MOST_WORK),
        at_most("accuracy lost by pruned, distilled, trained int8", small["drop"], MOST_LOST_PRUNED),
        at_least("share of images on which its integers and fake-quantized floats agree", small["agreement"], LEAST_AGREEMENT),
    ]


def main() -> None:
    """Trains what is not trained yet, measures, judges."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="folder with the IDX files")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "trained_quantization", help="folder of checkpoints")
    arguments = parser.parse_args()
    sys.path.insert(0, str(EXAMPLE))  # its files import each other by name
    import compress
    from recipe import normalize, recipe

    test = recipe.evaluation()
    images, labels = normalize(test.images), test.labels
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        for name, module in variants(arguments, compress, recipe):
            print(f"measure {name}", file=sys.stderr, flush=True)
            row = measured(name, module, recipe, images, labels, Path(folder))
            rows.append(row | {"drop": round((rows[0] if rows else row)["accuracy"] - row["accuracy"], 6)})
        add_latency(rows, recipe.example())
    publish("trained_quantization", rows, bars_of(rows))


if __name__ == "__main__":
    main()
