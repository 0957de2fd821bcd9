"""What the runtime costs above onnxruntime: per call, and at import.

Bars: a call through the runtime costs at most 3 µs more than ``InferenceSession.run`` with the same feed; importing the
runtime adds at most 15 ms and 5 MB to importing numpy and onnxruntime.

A call: rounds in which a block of calls goes through each way, in a random order, on models of a few bytes, where the
model itself takes microseconds. A round gives one difference; the median over rounds and its interval are reported.

An import: fresh processes in a random order. Each imports numpy and onnxruntime first and then what is added to them, and
takes the time and the resident memory of both steps: the difference of two whole processes says the same, but drowns it in
the spread of loading onnxruntime. ``from edgekit_runtime import load`` is judged, since that is what a program writes; the
rows also tell what opening adds, where the runtime loads its JSON decoder and SHA-256.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.document import Bar, at_most, median_interval, publish
from edgekit_runtime.arrays import write_arrays
from edgekit_runtime.bundle import file_entry
from edgekit_runtime.manifest import MANIFEST, Chosen, Manifest, encode_manifest
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.model import Model, load
from edgekit_runtime.selftest import GOLDEN, pack_golden
from edgekit_runtime.session import Provider, SessionConfig

MODELS = Path(__file__).parents[1] / "tests" / "runtime" / "models"
CALL_LIMIT_US, IMPORT_LIMIT_MS, IMPORT_LIMIT_MB = 3.0, 15.0, 5.0
# Blocks far shorter than the scheduler's time slice: on a shared machine most of them are then not interrupted at all.
ROUNDS, BLOCK = 3000, 10
PROCESSES = 21

# Runs in a fresh process: two steps, each with its wall time, CPU time and growth of resident memory.
CHILD = """
import json, sys, time
def resident():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))
    except OSError:
        return None
def step(code):
    memory, wall, cpu = resident(), time.perf_counter(), time.process_time()
    exec(code, {"path": sys.argv[3]})
    wall, cpu, after = time.perf_counter() - wall, time.process_time() - cpu, resident()
    return [wall * 1e3, cpu * 1e3, None if after is None else (after - memory) / 1e6]
print(json.dumps([step(sys.argv[1]), step(sys.argv[2])]))
"""
BASE = "import numpy, onnxruntime"
IMPORTS = {
    "import edgekit_runtime": "import edgekit_runtime",
    "from edgekit_runtime import load": "from edgekit_runtime import load",
}
OPENINGS = {
    "onnxruntime: open a model file": "import onnxruntime; onnxruntime.InferenceSession(path + '/model.onnx')",
    "edgekit: import and open the model file": "from edgekit_runtime import load; load(path + '/model.onnx')",
    "edgekit: import and open its bundle, hashes checked": "from edgekit_runtime import load; load(path)",
}


def feed_for(model: Model) -> dict[str, np.ndarray]:
    """Zeros for every input, free axes of size 1."""
    return {spec.name: np.zeros([axis if isinstance(axis, int) else 1 for axis in spec.shape], spec.dtype) for spec in model.inputs}


def call_rows(name: str) -> list[dict[str, Any]]:
    """Each way of calling the model `name`, against ``session.run`` with the names of the outputs."""
    model = load(MODELS / f"{name}.onnx", threads=1)
    feed = feed_for(model)
    session, outputs = model.session, [spec.name for spec in model.outputs]
    ways: dict[str, Callable[[], object]] = {
        "session.run(names, feed)": lambda: session.run(outputs, feed),
        "session.run(None, feed)": lambda: session.run(None, feed),
        "model(feed)": lambda: model(feed),
        "model(**feed)": lambda: model(**feed),
    }
    spent: dict[str, list[float]] = {way: [] for way in ways}
    order = np.random.default_rng(0)
    names = list(ways)
    for _ in range(ROUNDS):
        for index in order.permutation(len(names)):
            spent[names[index]].append(block_us(ways[names[index]]))
    plain = np.asarray(spent[names[0]])
    rows = []
    for way, times in spent.items():
        added = np.asarray(times) - plain
        rows.append(
            {
                "what": f"{way}, {len(feed)} input{'s'[: len(feed) > 1]}",
                "call_us": median(times),
                "added_us": float(np.median(added)),
                "added_us_ci": median_interval(added.tolist()),
            }
        )
    return rows


def block_us(call: Callable[[], object]) -> float:
    """Microseconds of one call, from a block of them after a few that are not counted."""
    for _ in range(3):
        call()
    start = perf_counter_ns()
    for _ in range(BLOCK):
        call()
    return (perf_counter_ns() - start) / BLOCK / 1e3


def process_rows(cases: dict[str, str], path: Path) -> list[dict[str, Any]]:
    """What each case adds to a process that has imported numpy and onnxruntime."""
    steps: dict[str, list[list[list[float | None]]]] = {case: [] for case in cases}
    order = np.random.default_rng(0)
    names = list(cases)
    for _ in range(PROCESSES):
        for index in order.permutation(len(names)):
            command = [sys.executable, "-c", CHILD, BASE, cases[names[index]], str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            steps[names[index]].append(json.loads(done.stdout))
    rows = []
    for case, seen in steps.items():
        wall = [added[0] for _, added in seen if added[0] is not None]
        memory = [added[2] for _, added in seen if added[2] is not None]
        rows.append(
            {
                "what": case,
                "base_ms": median(base[0] or 0.0 for base, _ in seen),
                "added_ms": median(wall),
                "added_ms_ci": median_interval(wall),
                "added_cpu_ms": median(added[1] or 0.0 for _, added in seen),
                "added_mb": median(memory) if memory else None,
            }
        )
    return rows


def pack_bundle(folder: Path) -> Path:
    """A bundle of the smallest model."""
    folder.mkdir()
    shutil.copy(MODELS / "qdq.onnx", folder / "model.onnx")
    model = load(folder / "model.onnx")
    feeds = [feed_for(model)]
    outputs = [model(feed) for feed in feeds]
    write_arrays(folder / GOLDEN, pack_golden(feeds, outputs, outputs))
    manifest = Manifest(
        format=1,
        name="tiny",
        created="2026-01-01T00:00:00Z",
        model="model.onnx",
        inputs=list(model.inputs),
        outputs=list(model.outputs),
        target="host",
        provider=Provider(),
        session=SessionConfig(),
        preprocessing={},
        isa={},
        onnxruntime="1.22",
        chosen=Chosen("static-u8s8", "int8", "the only one", False, Measurement()),
        baseline=Measurement(),
        tools={},
        files={file.name: file_entry(file) for file in folder.iterdir()},
    )
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    return folder


def main() -> None:
    """Measures, prints, judges."""
    rows = [*call_rows("qdq"), *call_rows("three_inputs")]
    with tempfile.TemporaryDirectory() as folder:
        rows += process_rows({**IMPORTS, **OPENINGS}, pack_bundle(Path(folder) / "tiny.edge"))
    found = {row["what"]: row for row in rows}
    imported = found["from edgekit_runtime import load"]
    bars: list[Bar] = [
        at_most(f"a call adds, {inputs}, µs", found[f"model(feed), {inputs}"]["added_us"], CALL_LIMIT_US)
        for inputs in ("1 input", "3 inputs")
    ]
    bars += [
        at_most("importing the runtime adds, ms", imported["added_ms"], IMPORT_LIMIT_MS),
        at_most("importing the runtime adds, MB", imported["added_mb"], IMPORT_LIMIT_MB),
    ]
    publish("runtime_overhead", rows, bars)


if __name__ == "__main__":
    main()
