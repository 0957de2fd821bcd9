"""ncnn from the traced module by pnnx: float32 with half floats off, and as ncnn comes, with half floats where the core has them.

From the exported ONNX graph pnnx 20261020 makes another network of the example: it loses the axis of a mean.

Its int8 is not here: ``ncnn2table`` and ``ncnn2int8``, which make it, are in none of its wheels, and pnnx does not quantize.
"""

# The library is on the board alone.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.rivals.serving import Arrays, Material, Opened

if TYPE_CHECKING:
    import torch

__all__ = ["SUFFIX", "WAYS", "build", "open_model"]

WAYS = {"float32": "ncnn float32, half floats off", "float16": "ncnn as it comes: half floats stored and computed with"}
SUFFIX = ".ncnn.param"
LIMIT_S = 600
# What pnnx writes; ncnn's own are the last two.
WRITTEN = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy", "ncnnparam", "ncnnbin")


def build(way: str, module: torch.nn.Module, feed: Arrays, out: Path, pnnx: Path) -> None:
    """Writes the model of one of `WAYS`: ``out``, and its weights beside it; of half floats where they are computed with.

    Args:
        way: Which.
        module: The network, in eval mode.
        feed: Its inputs, in order, whose shapes the model is fixed to.
        out: The file of the graph.
        pnnx: The converter.

    Raises:
        ValueError: It wrote no files.
    """
    import torch

    work = out.parent / f".{way}"
    work.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a trace holds for these shapes alone, which is what is wanted
        traced = torch.jit.trace(module, tuple(torch.from_numpy(array) for array in feed.values()), check_trace=False)
        torch.jit.save(traced, work / "module.pt")
    shapes = ",".join(f"[{','.join(map(str, array.shape))}]{array.dtype.kind}{array.dtype.itemsize * 8}" for array in feed.values())
    made, weights = work / "ncnnparam", work / "ncnnbin"
    command = [str(pnnx), "module.pt", f"inputshape={shapes}", f"fp16={int(way == 'float16')}"]
    command += [f"{what}={work / what}" for what in WRITTEN]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=work, timeout=LIMIT_S)
    if done.returncode != 0 or not made.exists() or not weights.exists():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise ValueError(f"pnnx ended with {done.returncode}: {lines[-1][:300]}")
    weights.replace(_weights(out))
    made.replace(out)
    shutil.rmtree(work)


def open_model(file: Path, material: Material) -> Opened:
    """Opens a model with one thread. Inputs and outputs are those of the material without the axis of examples."""
    import ncnn

    net: Any = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = 1
    if file.name.startswith("float32"):
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(file)) != 0 or net.load_model(str(_weights(file))) != 0:
        raise ValueError(f"ncnn does not load {file}")
    names = [f"out{place}" for place in range(len(material.outputs))]

    def mats(feed: Arrays) -> list[tuple[str, Any]]:
        # Copied once, so that each channel begins where ncnn wants it to.
        return [(f"in{place}", ncnn.Mat(np.ascontiguousarray(feed[name][0])).clone()) for place, name in enumerate(material.inputs)]

    def bind(feed: Arrays) -> Callable[[], list[np.ndarray]]:
        ready = mats(feed)

        def call() -> list[np.ndarray]:
            extractor = net.create_extractor()
            for name, mat in ready:
                extractor.input(name, mat)
            return [np.array(extractor.extract(name)[1]) for name in names]

        return call

    def run(feed: Arrays) -> Arrays:
        return {name: array[None] for name, array in zip(material.outputs, bind(feed)(), strict=True)}

    return Opened(run, bind)


def _weights(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(SUFFIX) + ".ncnn.bin")
