"""What calibration costs: MobileNetV2 at 224², random weights, synthetic photographs, one thread.

Bars: calibrating for min-max, percentile, entropy and mean squared error together (and the average, which is free) takes at most
twice the time of the plain float32 inferences; the peak memory with 2048 images is within 5 % of that with 64; and on 128
images calibrating for entropy is at least five times as fast as onnxruntime's entropy calibrator.

Time: rounds that go through the same images by plain inference, by calibration (all of it: opening, running, and the ranges of all
methods), by one that saves its state, and by one that finds a finished state; each figure is the median over rounds of the
ratio to the plain inferences of the same round. The processor time is reported beside the wall clock, since it hardly feels
what else the machine does.

Memory: fresh processes whose images are drawn as they are asked for; the peak is the kernel's own (VmHWM).

The peer: fresh processes, each held to one core, both on the same images, which are drawn before the clock starts. onnxruntime's
calibrator keeps every tensor of every image it is given (7 GB for these); it gets 16 images at a time, which its interface
allows and which makes it no slower.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks.document import at_least, at_most, median_interval, publish
from benchmarks.models.mobilenet_v2 import hardswish, relu6
from benchmarks.models.random_weights import SIDE, photograph_like
from edgekit.progress import Quiet
from edgekit.source import source_of
from edgekit_export import METHODS, Graph, calibrate, ranges_from
from edgekit_runtime.session import SessionConfig, open_session

TIME_LIMIT, MEMORY_LIMIT, PEER_LIMIT = 2.0, 1.05, 5.0
# Opening a model takes as long as some twenty inferences, and is counted: a round is not so short that it is all there is to see.
ROUNDS, IMAGES, DISTINCT_IMAGES = 5, 256, 32
FEW, MANY = 64, 2048
PEER_IMAGES, PEER_CHUNK = 128, 16

MEMORY_CHILD = """
import sys
from pathlib import Path
import numpy as np
from edgekit_export import METHODS, Graph, calibrate, ranges_from

def images():
    for seed in range(int(sys.argv[2])):
        yield {"image": np.random.default_rng(seed).uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)}

found = calibrate(Graph.read(Path(sys.argv[1])), images(), threads=1)
for method in METHODS:
    ranges_from(found.histograms, method)
with open("/proc/self/status") as file:
    print(next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")))
"""
PEER_START = """
import os, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pathlib import Path
from benchmarks.models.random_weights import photograph_like
feeds = [{"image": photograph_like(index)} for index in range(int(sys.argv[2]))]
"""
OUR_CHILD = """
from edgekit_export import Graph, calibrate, ranges_from
graph = Graph.read(Path(sys.argv[1]))
start = time.perf_counter()
ranges_from(calibrate(graph, feeds).histograms, "entropy")
print(time.perf_counter() - start)
"""
THEIR_CHILD = """
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

class Reader(CalibrationDataReader):
    def __init__(self, feeds):
        self._feeds = iter(feeds)

    def get_next(self):
        return next(self._feeds, None)

start = time.perf_counter()
model, chunk = Path(sys.argv[1]), int(sys.argv[3])
calibrator = create_calibrator(
    model, calibrate_method=CalibrationMethod.Entropy, augmented_model_path=str(model.with_suffix(".augmented.onnx"))
)
for first in range(0, len(feeds), chunk):
    calibrator.collect_data(Reader(feeds[first : first + chunk]))
calibrator.compute_data()
print(time.perf_counter() - start)
"""


def stream(distinct: list[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """The images of a round, over and over the same ones."""
    for index in range(IMAGES):
        yield distinct[index % len(distinct)]


class Images:
    """The images of a round, to be gone through more than once."""

    def __init__(self) -> None:
        self._distinct = [{"image": photograph_like(index)} for index in range(DISTINCT_IMAGES)]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """From the first one on."""
        return stream(self._distinct)


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Wall clock and processor time of `work`, seconds."""
    wall, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - wall, process_time() - cpu


def time_rows(name: str, graph: Graph, path: Path, rounds: int) -> list[dict[str, Any]]:
    """Calibration against plain inference of the same images, with all methods, one thread each."""
    images = Images()
    session = open_session(path, config=SessionConfig(threads=1)).session
    state = path.with_suffix(".state.npz")

    def plain() -> None:
        for feed in images:
            session.run(None, feed)

    def calibration(state: Path | None = None) -> None:
        found = calibrate(graph, images, state=state, threads=1)
        for method in METHODS:
            ranges_from(found.histograms, method)

    def with_state() -> None:
        state.unlink(missing_ok=True)
        calibration(state)

    ways: dict[str, Callable[[], object]] = {
        "plain inference": plain,
        "calibration": calibration,
        "calibration, saved": with_state,
        "calibration, found finished": lambda: calibration(state),
    }
    for _, feed in zip(range(8), images, strict=False):
        session.run(None, feed)
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            times[way].append(spent(work))
    base = times["plain inference"]
    rows = []
    for way, found in times.items():
        ratios = [wall / plain_wall for (wall, _), (plain_wall, _) in zip(found, base, strict=True)]
        rows.append(
            {
                "what": f"{name}: {way}",
                "images": IMAGES,
                "ms_per_image": median(wall for wall, _ in found) / IMAGES * 1e3,
                "ratio": median(ratios),
                "ratio_ci": median_interval(ratios),
                "cpu_ratio": median(cpu / plain_cpu for (_, cpu), (_, plain_cpu) in zip(found, base, strict=True)),
            }
        )
    return rows


def child(code: str, *arguments: object) -> float:
    """The figure that a fresh process prints last."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode != 0:
        raise RuntimeError(f"a child of calibration_cost ended with {done.returncode}: {done.stderr[-500:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def method_rows(graph: Graph) -> list[dict[str, Any]]:
    """Finding the ranges of each method, histograms given."""
    found = calibrate(graph, [{"image": photograph_like(index)} for index in range(8)])
    rows = []
    for method in METHODS:
        wall = median(spent(lambda method=method: ranges_from(found.histograms, method))[0] for _ in range(3))  # type: ignore[misc]
        rows.append({"what": f"ranges of {len(found.histograms)} tensors by {method}", "ms": wall * 1e3})
    return rows


def main() -> None:
    """Measures, prints, judges."""
    with tempfile.TemporaryDirectory() as folder:
        graphs, paths = {}, {}
        for name, recipe in (("relu6", relu6), ("hardswish", hardswish)):
            graphs[name] = source_of(recipe, Quiet()).prepared
            paths[name] = Path(folder) / f"{name}.onnx"
            graphs[name].save(paths[name])
        rows = time_rows("ReLU6", graphs["relu6"], paths["relu6"], ROUNDS)
        ratio = next(row["ratio"] for row in rows if row["what"] == "ReLU6: calibration")
        rows += time_rows("Hardswish", graphs["hardswish"], paths["hardswish"], 1)
        rows += method_rows(graphs["relu6"])
        peaks = {count: child(MEMORY_CHILD, paths["relu6"], count) for count in (FEW, MANY)}
        rows += [{"what": f"peak memory, {SIDE}²", "images": count, "peak_mb": peak / 1e6} for count, peak in peaks.items()]
        ours = child(PEER_START + OUR_CHILD, paths["relu6"], PEER_IMAGES)
        theirs = child(PEER_START + THEIR_CHILD, paths["relu6"], PEER_IMAGES, PEER_CHUNK)
        rows += [
            {"what": f"entropy, one core: {who}", "images": PEER_IMAGES, "ms_per_image": seconds / PEER_IMAGES * 1e3}
            for who, seconds in (("edgekit", ours), ("onnxruntime", theirs))
        ]
    publish(
        "calibration_cost",
        rows,
        [
            at_most("calibration for all methods, over plain float32 inference", ratio, TIME_LIMIT),
            at_most(f"peak memory with {MANY} images, over that with {FEW}", peaks[MANY] / peaks[FEW], MEMORY_LIMIT),
            at_least(f"onnxruntime's entropy calibrator on {PEER_IMAGES} images, over ours", theirs / ours, PEER_LIMIT),
        ],
    )


if __name__ == "__main__":
    main()
